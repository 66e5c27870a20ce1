"""What is written to the tables and read from them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, cast
from uuid import UUID

from sqlalchemy import CursorResult, Engine, delete, func, insert, select, tuple_
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.orm import Session

from feedback.items import Row
from feedback.tables import Feedback, Review

Decision = Literal["accepted", "rejected", "relabelled"]


class Conflict(Exception):
    """Ids that are stored with another content; nothing was stored."""

    def __init__(self, ids: set[UUID]) -> None:
        super().__init__(f"{len(ids)} id(s) are stored with another content.")
        self.ids = ids


class Reviewed(NamedTuple):
    """An item of feedback with its latest review, if there is one."""

    feedback: Feedback
    review: Review | None


def save(engine: Engine, rows: Sequence[Row]) -> set[UUID]:
    """Store the rows of one tenant, all or none, and return the ids that are new.

    A row that is stored already is left as it is. Raises Conflict if its content was
    another.
    """
    # Always in the same order, so that two requests cannot deadlock.
    by_id = {row["id"]: row for row in sorted(rows, key=lambda row: str(row["id"]))}
    differing = {
        row["id"] for row in rows if by_id[row["id"]]["digest"] != row["digest"]
    }
    if differing:
        raise Conflict(differing)
    is_sqlite = engine.dialect.name == "sqlite"
    into = insert_sqlite if is_sqlite else insert_postgresql
    with engine.begin() as connection:
        statement = into(Feedback).values(list(by_id.values()))
        unless_known = statement.on_conflict_do_nothing(
            index_elements=[Feedback.tenant, Feedback.id]
        )
        stored = set(connection.scalars(unless_known.returning(Feedback.id)))
        for row in connection.execute(
            select(Feedback.id, Feedback.digest).where(
                tuple_(Feedback.tenant, Feedback.id).in_(
                    [(by_id[id_]["tenant"], id_) for id_ in by_id.keys() - stored]
                )
            )
        ):
            if row.digest != by_id[row.id]["digest"]:
                differing.add(row.id)
        if differing:
            raise Conflict(differing)
    return stored


def read(session: Session, decisions: set[str | None]) -> list[Reviewed]:
    """Return the items whose latest decision is one of these; None: has none yet.

    The oldest come first.
    """
    latest = select(func.max(Review.id)).group_by(Review.tenant, Review.feedback_id)
    query = (
        select(Feedback, Review)
        .outerjoin(
            Review,
            (Review.tenant == Feedback.tenant)
            & (Review.feedback_id == Feedback.id)
            & Review.id.in_(latest),
        )
        .order_by(Feedback.received_at, Feedback.tenant, Feedback.id)
    )
    return [
        Reviewed(feedback, review)
        for feedback, review in session.execute(query)
        if (review.decision if review else None) in decisions
    ]


def decide(
    session: Session,
    item: Feedback,
    decision: Decision,
    reviewer: str,
    truth: str | float | None = None,
) -> None:
    """Add a review of an item; `truth` is given if it was relabelled."""
    session.execute(
        insert(Review).values(
            tenant=item.tenant,
            feedback_id=item.id,
            decision=decision,
            label=truth if isinstance(truth, str) else None,
            value=None if isinstance(truth, str) else truth,
            reviewer=reviewer,
            reviewed_at=datetime.now(UTC),
        )
    )


def forget(
    engine: Engine, *, tenant: str | None = None, before: datetime | None = None
) -> int:
    """Delete feedback and its reviews, by tenant, by age or by both; return the number.

    Raises ValueError if neither is given: that would be all.
    """
    if tenant is None and before is None:
        raise ValueError("Name a tenant or an age.")
    statement = delete(Feedback)
    if tenant is not None:
        statement = statement.where(Feedback.tenant == tenant)
    if before is not None:
        statement = statement.where(Feedback.received_at < before)
    with engine.begin() as connection:
        result = cast(CursorResult[Any], connection.execute(statement))
        return result.rowcount
