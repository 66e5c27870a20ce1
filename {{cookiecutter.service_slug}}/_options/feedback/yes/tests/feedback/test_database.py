"""The schema: migrations, the page that describes it, deletion, backup."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from feedback import __main__ as verbs
from feedback import database, document, store
from feedback.items import Row
from feedback.tables import RECORDS, Base, Feedback, Review
from serving.testing import ROOT
from tests.deploy.manifests import STAGES, build, container, find, of_component
from tests.feedback.conftest import PostgreSQL, count, open_engine


def make_row(tenant: str = "acme", days: float = 0, number: int = 0) -> Row:
    """Return a row of feedback that was received some days ago."""
    now = datetime.now(UTC) - timedelta(days=days)
    return {
        "tenant": tenant,
        "id": uuid.uuid4(),
        "digest": f"{number:064}",
        "prediction_id": "1",
        "instance": {"text": "a"},
        "contract_version": "0" * 12,
        "model_version": "1",
        "predicted_label": "a",
        "predicted_value": None,
        "score": 0.5,
        "label": "b",
        "value": None,
        "correct": None,
        "comment": None,
        "source": None,
        "actor": None,
        "occurred_at": now,
        "received_at": now,
    }


def test_the_migrations_give_the_tables_of_the_code(engine: Engine) -> None:
    database.check(engine)

    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE feedback ADD COLUMN another INTEGER"))
    with pytest.raises(Exception, match="another"):
        database.check(engine)


def test_each_migration_can_be_taken_back(engine: Engine) -> None:
    schemas = [document.read_schema(engine)]
    numbers = ["base", *database.revisions()]
    for number in reversed(numbers[:-1]):
        database.downgrade(engine, number)
        schemas.append(document.read_schema(engine))
    assert schemas[-1] == {}
    for number, schema in zip(numbers[1:], reversed(schemas[:-1]), strict=True):
        database.migrate(engine, number)
        assert document.read_schema(engine) == schema


def test_files_of_migrations_begin_with_their_numbers() -> None:
    assert [one.number for one in document.read_revisions()] == database.revisions()


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / document.PAGE).read_text(encoding="utf-8")

    assert page == document.write(page), "run make docs"


def test_tables_that_say_all_have_no_mistakes() -> None:
    assert list(document.mistakes()) == []


def test_what_the_tables_leave_open_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = Base.metadata.tables["feedback"]
    (index,) = table.indexes
    monkeypatch.setattr(table.c.label, "doc", "True label.")
    monkeypatch.setattr(table.c.value, "doc", "Number. Index: yes, because it is.")
    monkeypatch.setattr(index, "info", {})
    monkeypatch.delitem(RECORDS, "review")

    found = list(document.mistakes())

    assert [rule for rule, _ in found] == ["B2", "B2", "B2", "B3"]
    for (_, what), part in zip(
        found,
        ("feedback.label", "no index has it", str(index.name), "review"),
        strict=True,
    ):
        assert part in what


def test_changes_are_told_in_words() -> None:
    old = {"a": {"column `a.x`": "INTEGER", "column `a.y`": "TEXT"}, "b": {"c": "d"}}
    new = {"a": {"column `a.x`": "TEXT", "column `a.z`": "TEXT"}}

    assert list(document.compare(old, new)) == [
        "altered the column `a.x`: INTEGER → TEXT",
        "removed the column `a.y`",
        "added the column `a.z`: TEXT",
        "removed the table `b`",
        "removed the c",
    ]


def test_feedback_is_forgotten_by_tenant_and_by_age_with_its_reviews(
    engine: Engine,
) -> None:
    rows = [make_row("acme"), make_row("acme", days=9), make_row("beta", days=9)]
    for row in rows:
        store.save(engine, [row])
    with Session(engine) as session, session.begin():
        for item, _ in store.read(session, {None}):
            store.decide(session, item, "accepted", "ada")
    assert (count(engine), count(engine, "review")) == (3, 3)

    week = datetime.now(UTC) - timedelta(days=7)
    assert store.forget(engine, tenant="acme", before=week) == 1
    assert store.forget(engine, before=week) == 1
    assert store.forget(engine, tenant="acme") == 1

    assert (count(engine), count(engine, "review")) == (0, 0)
    with pytest.raises(ValueError, match="Name a tenant or an age"):
        store.forget(engine)


def test_the_latest_review_counts(engine: Engine) -> None:
    store.save(engine, [make_row()])
    with Session(engine) as session, session.begin():
        ((item, _),) = store.read(session, {None})
        store.decide(session, item, "accepted", "ada")
        store.decide(session, item, "relabelled", "grace", "c")

        assert store.read(session, {None, "accepted"}) == []
        ((_, review),) = store.read(session, {"relabelled"})
        assert isinstance(review, Review)
        assert (review.label, review.reviewer) == ("c", "grace")


def test_a_migration_gives_up_where_a_lock_is_held(
    postgresql: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgresql)
    monkeypatch.setattr(database, "LOCK_SECONDS", 1)
    holder = open_engine(postgresql)
    with holder.begin() as connection:
        lock = f"SELECT pg_advisory_xact_lock({database.LOCK_NUMBER})"
        connection.execute(text(lock))

        assert verbs.main(["migrate"]) == 1

    assert "lock timeout" in capsys.readouterr().err
    assert verbs.main(["migrate"]) == verbs.main(["check"]) == 0
    holder.dispose()


def test_an_older_release_works_on_a_newer_schema(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE feedback ADD COLUMN another INTEGER"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    store.save(engine, [make_row()])

    assert count(engine) == 1
    assert not database.is_behind(engine)


def test_a_schema_that_lacks_a_migration_is_noticed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [*database.revisions(), "0099"]
    monkeypatch.setattr(database, "revisions", lambda: numbers)

    assert database.is_behind(engine)


def test_a_backup_is_restored(server: PostgreSQL, postgresql: str) -> None:
    engine = open_engine(postgresql)
    database.migrate(engine)
    store.save(engine, [make_row()])
    engine.dispose()
    name, copy = (x.rpartition("/")[2] for x in (postgresql, server.make_database()))
    file = server.directory / "feedback.dump"

    server.dump(file, name)
    server.restore(file, copy)

    restored = open_engine(server.url_of(copy))
    with Session(restored) as session:
        (row,) = session.query(Feedback).all()
        assert row.instance == {"text": "a"}
    database.check(restored)
    restored.dispose()


@pytest.mark.parametrize("stage", STAGES)
def test_the_migration_is_restricted_and_no_endpoint_of_a_service(stage: str) -> None:
    manifests = build(ROOT / "deploy" / "overlays" / stage)
    (job,) = of_component(manifests, "migration")
    template, services = job["spec"]["template"], find(manifests, "Service")
    labels = template["metadata"]["labels"].items()
    (app,) = template["spec"]["containers"]
    server = container(of_component(manifests, "server"))

    assert services
    assert not [one for one in services if one["spec"]["selector"].items() <= labels]
    assert app["image"] == server["image"]
    assert app["command"][-3:] == ["-m", "feedback", "migrate"]
    assert app["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert template["spec"]["securityContext"]["runAsNonRoot"]


def test_the_diagram_has_every_column_and_reference() -> None:
    diagram = document.diagram()

    assert "feedback ||--o{ review : has" in diagram
    for column in Base.metadata.tables["review"].columns:
        assert f" {column.name}" in diagram
