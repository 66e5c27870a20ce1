"""`make adopt`: from a file of the user's to a served model, in one command."""

import json
import random
import re
from pathlib import Path

import pytest

from tests.conftest import Forks, Service, copy, make_once, run
from tests.test_update import make_template, record, status, update

HERE = Path(__file__).parent / "in_service"
# The largest difference between what is served and scikit-learn by hand.
CLOSE = 0.02

# One worker makes what they share; the others go on with other tests.
pytestmark = [pytest.mark.slow(seconds=60), pytest.mark.xdist_group("adopted")]


def write_claims(file: Path, more: bool = False) -> Path:
    """A table as a spreadsheet of another country writes it."""
    draw = random.Random(3)
    header = "Claim ID;Größe (m²);Preis €;Region;Filed;E-mail;Notes"
    header += ";How satisfied are you with what you have received from us?;Outcome"
    lines = [header + ";Floors" * more]
    for number in range(400):
        size, region = draw.randint(20, 180), draw.choice(["Nord", "Süd", "West"])
        price = f"{size * draw.uniform(8, 14):,.2f}".translate(
            str.maketrans(",.", ".,")
        )
        is_paid = (size > 90 and region != "West") != (draw.random() < 0.1)
        cells = [f"C-{number:05}", size if number % 37 else "", f"{price} €", region]
        cells += [f"{1 + number % 28:02}.{1 + number % 12:02}.2026"]
        cells += [f"p{number}@example.com", f"water in the cellar, {number % 91} cm"]
        degree = ("Not", "So", "Very")[number % 3]
        cells += [f"{degree}  satisfied with nearly all of it"]
        cells += ["paid" if is_paid else "denied", *[number % 5] * more]
        lines.append(";".join(map(str, cells)))
    file.write_text("\n".join(lines), encoding="cp1252")
    return file


@pytest.fixture(scope="module")
def adopted(default: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service that has adopted a table, as its README says."""

    def make(directory: Path) -> Service:
        service = copy(default, directory)
        file = write_claims(directory / "claims.csv")
        said = service.make("adopt", DATA=str(file), LABEL="outcome", YES="1").stdout
        (directory / "said").write_text(said, encoding="utf-8")
        return service

    return make_once(tmp_path_factory, "adopted", make)


def said(adopted: Service) -> str:
    return (adopted.path.parent / "said").read_text(encoding="utf-8")


def test_adoption_says_what_it_found_and_shows_what_it_writes(adopted: Service) -> None:
    text = said(adopted)

    assert "Outcome is the label: 2 labels" in text
    assert "E-mail: personal data: e-mail addresses" in text
    assert "Claim ID: an identifier" in text
    assert "KEEP='Claim ID'" in text
    assert "TIME=Filed" in text
    assert "+    groesse_m2: Annotated[float, Field(ge=0, le=340)] | None" in text
    assert "on held-out rows" in text
    assert "make ask" in text


def test_the_verbs_work_after_an_adoption(adopted: Service, tmp_path: Path) -> None:
    service = copy(adopted, tmp_path)
    run("git", "add", "--all", cwd=service.path)

    assert "denied" in service.make("demo").stdout
    assert "report.html" in service.make("report").stdout
    assert "Passed" in service.make("lint").stdout
    # Those of tests/training that know no contract run in the default service.
    pipeline = ("pipeline", "config", "dvc", "report")
    training = [f"tests/training/test_{one}.py" for one in pipeline]
    service.run("pytest", "tests/app", *training)
    assert "Data and pipelines are up to date" in service.run("dvc", "status").stdout
    assert "This describes another model" in service.read("docs/capacity.md")


def test_a_second_run_writes_what_is_new_and_nothing_else(
    adopted: Service, tmp_path: Path
) -> None:
    service = copy(adopted, tmp_path)
    contract = service.path / "app/contract.py"
    text = contract.read_text(encoding="utf-8").replace(
        'label: Literal["denied", "paid"]\n',
        'label: Literal["denied", "paid"]\n\n    def tell(self) -> str:\n'
        '        """Say the label."""\n        return self.label\n',
    )
    contract.write_text(text.replace("le=340", "le=300"), encoding="utf-8")
    file = write_claims(tmp_path / "claims.csv", more=True)

    done = service.make("adopt", DATA=str(file), LABEL="Outcome", check=False)

    added = [line for line in done.stdout.splitlines() if line.startswith("+    ")]
    assert "+    floors: Annotated[int, Field(ge=0, le=8)]" in added
    assert "there is no terminal to ask. YES=1" in done.stdout
    assert "le=340" not in done.stdout
    assert "-    def tell" not in done.stdout


def test_an_update_leaves_what_is_adopted_and_brings_the_rest(
    adopted: Service, tmp_path: Path
) -> None:
    service = copy(adopted, tmp_path)
    removed = re.findall(r"git rm ([^;]+);", said(adopted))[0].split()
    template = make_template(tmp_path / "template")
    record(service, template=str(template.path), commit=template.revision())
    run("git", "add", "--all", cwd=service.path)
    run("git", "rm", "--quiet", "-f", *removed, cwd=service.path)
    run("git", "commit", "--quiet", "-m", "Adopt", "--no-verify", cwd=service.path)
    template.change(removed[0], '"""', '"""Better: ')
    template.change(".flake8", "", "# fixed\n")

    done = update(service)

    assert done.returncode == 0, done.stdout
    assert sorted(status(service)) == ["M  .cruft.json", "M  .flake8"], done.stdout
    assert not (service.path / removed[0]).exists()


@pytest.mark.parametrize("failure", ["refused", "not trained"])
def test_a_failure_leaves_the_service_as_it_was(
    adopted: Service, tmp_path: Path, failure: str
) -> None:
    service = copy(adopted, tmp_path)
    run("git", "add", "--all", cwd=service.path)
    run("git", "commit", "--quiet", "-m", "Adopt", "--no-verify", cwd=service.path)
    model = (service.path / "models/model.onnx").read_bytes()
    file = write_claims(tmp_path / "others.csv")
    if failure == "refused":
        file.write_text("a,outcome\n" + "1,x\n" * 50, encoding="utf-8")
    else:  # the labels are noise
        draw = random.Random(1)
        rows = [f"{draw.random()},{draw.choice('xxxxxy')}" for _ in range(200)]
        file.write_text("\n".join(["a,outcome", *rows]), encoding="utf-8")

    done = service.make("adopt", DATA=str(file), LABEL="outcome", YES="1", check=False)

    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert run("git", "status", "--short", cwd=service.path).stdout == ""
    assert (service.path / "models/model.onnx").read_bytes() == model


def test_what_is_served_is_as_good_as_scikit_learn_by_hand(
    default: Service, tmp_path: Path
) -> None:
    service = copy(default, tmp_path)
    (service.path / "adopted.py").write_bytes((HERE / "adopted.py").read_bytes())
    code = (
        "from sklearn import datasets as d\n"
        "d.load_wine(as_frame=True).frame.to_csv('wine.csv', index=False)\n"
        "d.load_diabetes(as_frame=True).frame.to_csv('diabetes.csv', index=False)\n"
    )
    service.run("python", "-c", code)
    for table in ("wine.csv", "diabetes.csv"):
        command = ("python", "adopted.py", table, "target", "STAGES=together")
        line = service.run(*command).stdout.splitlines()[-1]
        print(line)
        measured = json.loads(line)

        assert measured["served"] >= measured["by_hand"] - CLOSE
        assert measured["refused"] <= 2


def test_a_table_is_adopted_or_refused_however_it_is_written(
    default: Service, tmp_path: Path, forks: Forks
) -> None:
    service = copy(default, tmp_path)
    place = "tests/adopt/test_variants.py"
    (service.path / place).write_bytes((HERE / "variants.py").read_bytes())

    done = forks.pytest(service, "-q", place, model=None)

    assert done.returncode == 0, done.stdout[-8000:]
