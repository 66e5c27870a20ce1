"""The main job, end to end, with the commands of the emitted documents."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.conftest import ENVIRONMENT, ROOT, Bake, Service, copy, read_texts, run

pytestmark = pytest.mark.slow


@pytest.fixture
def mine(trained: Service, tmp_path: Path) -> Service:
    """A trained service to be changed at will."""
    return copy(trained, tmp_path)


def edit(service: Service, name: str, old: str, new: str) -> None:
    """Change a file as a user would; the old text must be there, once."""
    text = service.read(name)
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
    (service.path / name).write_text(text.replace(old, new), encoding="utf-8")


def shrink(service: Service) -> None:
    """Let it train on few rows: for tests that ask for no good model."""
    edit(service, "training/conf/config.yaml", "per_label: null", "per_label: 60")
    edit(service, "training/conf/config.yaml", "macro_f1: 0.85", "macro_f1: 0.5")


def stages_run(output: str) -> list[str]:
    """The stages that DVC ran, in their order."""
    return re.findall(r"Running stage '(\w+)'", output)


@contextmanager
def serving(service: Service, **variables: str) -> Iterator[str]:
    """`make run` on a free port, as a user runs it; gives the URL."""
    process = subprocess.Popen(
        ["make", "--no-print-directory", "run"],
        cwd=service.path,
        env=ENVIRONMENT | {"PORT": "0"} | variables,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            # For people: `make run` asks for lines that are no JSON.
            if match := re.search(r"^\S+ info +Listening on (\S+)", line):
                break
        else:
            pytest.fail("make run ended before it listened")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield match[1]
    finally:
        # The group is make and the service: Ctrl-C reaches both.
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def ask(url: str, path: str, body: object = None) -> Any:
    """The service's JSON answer; waits for a service that still starts."""
    content = None if body is None else json.dumps(body).encode()
    request = Request(url + path, content, {"Content-Type": "application/json"})
    for _ in range(100):
        try:
            with urlopen(request, timeout=10) as response:
                return json.load(response)
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{url}{path} gives no answer")


@pytest.mark.alone
def test_the_service_passes_its_own_tests(default: Service) -> None:
    output = default.make("test").stdout

    assert re.search(r"\d+ passed", output)
    assert "skipped" not in output


@pytest.mark.slow(seconds=60)
def test_make_demo_works_in_an_empty_directory_without_uv(tmp_path: Path) -> None:
    run("git", "clone", "--quiet", str(ROOT), "template", cwd=tmp_path)
    path = path_without(tmp_path / "bin", "uv", "uvx")

    output = run("make", "demo", cwd=tmp_path / "template", PATH=path).stdout

    assert re.search(r"9\d\.\d%  HassStartTimer +set a timer for 20 minutes", output)
    assert (tmp_path / "template" / ".venv" / "bin" / "uv").exists()
    assert run("git", "status", "--porcelain", cwd=tmp_path / "template").stdout == ""


def test_a_service_gets_uv_into_its_own_environment(bake: Bake, tmp_path: Path) -> None:
    service = bake()

    service.make(".venv/bin/uv", PATH=path_without(tmp_path / "bin", "uv", "uvx"))

    assert "uv" in run(".venv/bin/uv", "--version", cwd=service.path).stdout


def path_without(directory: Path, *tools: str) -> str:
    """A PATH with everything that this machine has, but for these tools."""
    directory.mkdir()
    (directory / "python3").symlink_to(Path(sys.base_prefix, "bin", "python3"))
    for place in ("/usr/local/bin", "/usr/bin", "/bin"):
        for tool in Path(place).glob("*"):
            if tool.name not in tools and not (directory / tool.name).exists():
                (directory / tool.name).symlink_to(tool)
    return str(directory)


def test_the_default_model_is_good_enough(trained: Service) -> None:
    metrics = json.loads(trained.read("reports/metrics.json"))
    print("metrics of the default service:", metrics)
    rows = read_texts(trained, "data/raw.parquet")
    sidecar = json.loads(trained.read("models/model.json"))

    assert metrics["macro_f1"] >= 0.90
    assert metrics["macro_f1_random_split"] > metrics["macro_f1"]
    assert 9_000 < len(rows) < 11_000
    assert 25 <= len(sidecar["labels"]) <= 35


def test_push_clone_pull_run_gives_the_same_model_and_serves_it(
    mine: Service, tmp_path: Path
) -> None:
    mine.make("push")
    colleague = tmp_path / "colleague"
    run("git", "clone", "--quiet", str(mine.path), str(colleague), cwd=tmp_path)
    (colleague / ".venv").symlink_to((mine.path / ".venv").resolve())
    clone = Service(colleague)

    clone.make("pull")

    for name in ("models/model.onnx", "models/model.json", "data/raw.parquet"):
        assert (colleague / name).read_bytes() == (mine.path / name).read_bytes()
    with serving(clone) as url:
        sentence = {"instances": [{"text": "set a timer for 20 minutes"}]}
        answer = ask(url, "/v1/predict", sentence)
        sidecar = json.loads(mine.read("models/model.json"))
        assert answer["predictions"][0]["label"] == "HassStartTimer"
        assert ask(url, "/v1/model")["version"] == sidecar["version"]


def test_a_clean_run_elsewhere_gives_the_same_bytes(mine: Service) -> None:
    mine.run("python", "-m", "training", PYTHONHASHSEED="1")

    again = mine.path / "outputs" / "trial" / "models" / "model.onnx"
    before = mine.path / "models" / "model.onnx"
    assert again.read_bytes() == before.read_bytes()


LINEAR = ("training/conf/model/linear.yaml", "30", "20")


def test_a_change_runs_again_what_depends_on_it_and_nothing_else(mine: Service) -> None:
    assert stages_run(mine.make("train").stdout) == []
    edit(mine, *LINEAR)

    # What was composed anew is what the other stages are compared with.
    stages = ["compose", "train", "evaluate", "export"]
    assert stages_run(mine.make("train").stdout) == stages


@pytest.mark.parametrize(
    ("name", "old", "new", "changed"),
    [
        (*LINEAR, {"train"}),
        ("training/conf/model/bayes.yaml", "0.1", "0.2", set()),
        ("training/conf/config.yaml", "macro_f1: 0.85", "macro_f1: 0.84", {"evaluate"}),
        ("training/conf/config.yaml", "1.0e-5", "0.9e-5", {"export"}),
        ("training/conf/config.yaml", "model: linear", "model: bayes", {"train"}),
        (
            "training/conf/config.yaml",
            "seed: 0",
            "seed: 0\nmodel:\n  longest: 2",
            {"train"},
        ),
    ],
)
def test_a_change_reaches_the_stages_that_read_it(
    mine: Service, name: str, old: str, new: str, changed: set[str]
) -> None:
    edit(mine, name, old, new)

    composed = mine.run("dvc", "repro", "compose").stdout

    assert stages_run(composed) == ["compose"]
    assert set(json.loads(mine.run("dvc", "status", "--json").stdout)) == changed


def test_a_trial_run_leaves_nothing_that_make_train_records(mine: Service) -> None:
    before = mine.read("dvc.lock")
    mine.run(
        "python", "-m", "training", "seed=3", "rows_per_label=60", "~gate", "+gate={}"
    )
    mine.run("python", "-m", "training.train", "model=bayes")

    mine.make("train")

    assert mine.read("dvc.lock") == before
    assert "seed=3" in mine.make("runs").stdout


def test_an_experiment_of_dvc_changes_a_value_or_says_where_it_is(
    mine: Service,
) -> None:
    wrong = ("dvc", "exp", "run", "-S", "reports/config.yaml:validation.folds=2")
    refused = mine.run(*wrong, check=False)
    assert refused.returncode != 0
    place = "training/conf/config.yaml:validation.folds=2"
    assert f"dvc exp run -S '{place}'" in refused.stdout
    run("git", "checkout", "reports/config.yaml", cwd=mine.path)

    mine.run("dvc", "exp", "run", "-S", place)

    shown = mine.run("dvc", "exp", "show", "--csv").stdout.splitlines()
    folds = shown[0].split(",").index("validation.folds")
    assert {line.split(",")[folds] for line in shown[1:]} == {"2", "3"}


def test_a_weak_model_stops_the_pipeline_and_the_earlier_one_stays(
    mine: Service,
) -> None:
    before = (mine.path / "models" / "model.onnx").read_bytes()
    edit(mine, "training/conf/config.yaml", "macro_f1: 0.85", "macro_f1: 0.99")

    done = mine.make("train", check=False)

    assert done.returncode != 0
    assert re.search(r"macro_f1 is 0\.9\d+, below the bound of 0\.99", done.stdout)
    assert "Traceback" not in done.stdout
    assert (mine.path / "models" / "model.onnx").read_bytes() == before
    assert (mine.path / "reports" / "metrics.json").exists()


def test_bad_data_stops_the_pipeline_and_the_earlier_data_stays(mine: Service) -> None:
    before = (mine.path / "data" / "raw.parquet").read_bytes()
    data = mine.path / "data" / "source" / "data.csv"
    data.write_text("text,label\nhello,\n", encoding="utf-8")
    edit(mine, "training/conf/config.yaml", "data: intents", "data: csv")

    done = mine.make("train", check=False)

    assert done.returncode != 0
    assert "data/source/data.csv, line 2, column label" in done.stdout
    assert (mine.path / "data" / "raw.parquet").read_bytes() == before


def test_an_experiment_that_is_to_stay_reaches_the_pipeline(mine: Service) -> None:
    edit(mine, "training/conf/config.yaml", "experiment: null", "experiment: chinese")
    shrink(mine)

    output = mine.make("train").stdout

    assert "language zh-CN" in output
    assert stages_run(output)[-1] == "export"


def test_dvc_notices_that_your_data_changed(mine: Service) -> None:
    data = mine.path / "data" / "source" / "data.csv"
    rows = [f"word{n % 3} number {n},label{n % 3}" for n in range(90)]
    data.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    edit(mine, "training/conf/config.yaml", "data: intents", "data: csv")
    assert stages_run(mine.make("train").stdout)[:2] == ["compose", "ingest"]

    data.write_text("\n".join(["text,label", *rows, "word0,label0"]), encoding="utf-8")

    assert "ingest" in json.loads(mine.run("dvc", "status", "--json").stdout)


def test_the_debug_experiment_runs(mine: Service) -> None:
    output = mine.run("python", "-m", "training", "experiment=debug").stdout

    assert "ONNX equals scikit-learn" in output


def test_another_language_is_one_override_away(mine: Service) -> None:
    few = ("rows_per_label=60", "gate.macro_f1=0.5")
    output = mine.run("python", "-m", "training", "data.language=hi", *few).stdout

    assert "language hi" in output
    assert re.search(r"macro_f1 0\.\d+ on the test rows", output)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        ["data.language=de"],
        ["data.language=zh-CN", "model=characters"],
    ],
    ids="".join,
)
def test_other_languages_are_learned(
    default: Service, tmp_path: Path, choices: list[str]
) -> None:
    service = copy(default, tmp_path)

    service.run("python", "-m", "training", "experiment=debug", *choices)

    assert (service.path / "outputs" / "debug" / "models" / "model.onnx").exists()


def test_the_report_is_written(mine: Service) -> None:
    mine.make("report")

    assert mine.read("reports/report.html").count("<img") == 5


def test_uvx_generates_without_installing_cookiecutter(tmp_path: Path) -> None:
    uv = str(ROOT / ".venv" / "bin" / "uv")

    run(uv, "tool", "run", "cookiecutter", str(ROOT), "--no-input", cwd=tmp_path)

    assert (tmp_path / "intent-service" / "Makefile").exists()


def test_the_commands_that_the_documents_show_work(mine: Service) -> None:
    frame = "pandas.read_parquet('data/train.parquet')"
    write = f"{frame}.to_csv('data/source/data.csv', index=False)"
    mine.run("python", "-c", f"import pandas; {write}")
    texts = mine.read("README.md") + mine.read("docs/training.md")
    found = re.findall(r"^    ((?:python|dvc) .*?)(?:  +#.*)?$", texts, re.MULTILINE)
    commands = dict.fromkeys(found)
    shrink(mine)

    assert len(commands) >= 5
    for command in commands:
        mine.run(*command.split())
