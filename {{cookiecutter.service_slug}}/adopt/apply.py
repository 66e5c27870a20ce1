"""Change the files of the service: show how, ask, and undo it if anything fails."""

import difflib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from adopt.layout import Refusal
from training.revision import git
from training.stage import compose

ROOT = Path(__file__).parent.parent
SOURCE = Path("data/source")
MODEL_SOURCE = SOURCE / "model.onnx"
DVC, LOCK = Path("dvc.yaml"), Path("dvc.lock")
CONTRACT, EXAMPLES = Path("app/contract.py"), Path("app/examples.py")
CONF = Path("training/conf")
CONFIG, DEBUG = CONF / "config.yaml", CONF / "experiment/debug.yaml"

# Ctrl-C, the end of a terminal, `kill`. Seconds in which DVC ends after one.
STOPS, PATIENCE = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM), 30


def show_changes(texts: Mapping[Path, str]) -> list[str]:
    """Return the lines of the differences between the files and what they become."""
    lines: list[str] = []
    for path, text in texts.items():
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        lines += difflib.unified_diff(
            old.splitlines(),
            text.splitlines(),
            f"a/{path.as_posix()}" if old else "/dev/null",
            f"b/{path.as_posix()}",
            lineterm="",
        )
    return lines


def agree(variables: Mapping[str, str]) -> bool:
    """Return whether the user agrees. Raises Refusal if nobody can be asked."""
    if variables.get("YES", "").lower() not in ("", "0", "n", "no", "false"):
        return True
    if not sys.stdin.isatty():
        raise Refusal(
            "Nothing was written: there is no terminal to ask. YES=1 agrees to it."
        )
    return input("Write this, and train? [y/N] ").strip().lower() in ("y", "yes")


def find_pipeline() -> str:
    """Return dvc.yaml with the stages that train: as it is, or as Git last had it.

    Raises Refusal if an adopted model has taken their place, and Git has no other.
    """
    text = DVC.read_text(encoding="utf-8")
    if not _has_adopted_model(text):
        return text
    with suppress(OSError, subprocess.CalledProcessError):  # no Git, or no repository
        log = git("log", "--format=%H", "--diff-filter=AM", "--", str(DVC))
        for commit in log.split():
            earlier = git("show", f"{commit}:./{DVC}")
            if not _has_adopted_model(earlier):
                return earlier
    raise Refusal(
        f"{DVC} has the stage of an adopted model in place of those that train, and "
        "Git has no earlier one here. Copy it from another service of this "
        "template, then run make adopt again."
    )


def _has_adopted_model(pipeline: str) -> bool:
    return "  adopt:" in pipeline.splitlines()


@contextmanager
def undone_on_failure(paths: Sequence[Path]) -> Iterator[None]:
    """Put files back as they were if anything fails, Ctrl-C included."""
    kept = {path: path.read_bytes() if path.is_file() else None for path in paths}
    outputs = [path for path in _list_outputs() if not path.exists()]
    try:
        yield
    except BaseException:
        with _uninterrupted():
            _restore(kept, outputs)
        raise


def _restore(kept: Mapping[Path, bytes | None], outputs: Sequence[Path]) -> None:
    for path, content in kept.items():
        if content is not None:
            path.write_bytes(content)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in outputs:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    # DVC has told Git about what it wrote: pointers, .gitignore and dvc.lock.
    told = [
        str(path)
        for path, content in kept.items()
        if content is None
        or path.suffix in (".dvc", ".lock")
        or path.name == ".gitignore"
    ]
    unstage = ["git", "reset", "--quiet", "--", *told]
    with suppress(OSError):
        subprocess.run(unstage, capture_output=True)
    if kept[Path("dvc.lock")] is not None:
        run_dvc("checkout", "--force", "--quiet", check=False)


def place(path: Path) -> Path:
    """Return where a file of the user's will be: in data/source, which DVC watches."""
    own = path.resolve()
    if own.is_relative_to((ROOT / SOURCE).resolve()):
        return own.relative_to(ROOT.resolve())
    # A link has the suffix, where what it leads to may be called by its hash.
    return SOURCE / Path(os.path.abspath(path)).name


def copy(source: Path, target: Path) -> None:
    """Copy a file or a directory, in place of what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        shutil.copyfile(source, target)
        return
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)


def _list_outputs() -> list[Path]:
    paths = compose().paths
    names = (paths.raw, paths.raw_test, paths.train, paths.test, paths.pipeline)
    return [*names, paths.training, paths.plots, paths.model]


def run_dvc(*arguments: str, check: bool = True) -> None:
    """Run DVC in the environment of the service. Raises Refusal if it fails.

    If this process is interrupted, DVC and what it runs have ended before it goes on.
    """
    programs = Path(sys.executable).parent
    variables = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    sys.stdout.flush()
    # A group of its own: a stage that outlived DVC would write into restored files.
    dvc = subprocess.Popen(
        [programs / "dvc", *arguments], env=variables, process_group=0
    )
    try:
        dvc.wait()
    except BaseException:
        with _uninterrupted():
            _stop(dvc)
        raise
    if check and dvc.returncode:
        raise Refusal(
            f"dvc {arguments[0]} failed, and all files are as they were. The reason "
            "stands above."
        )


def _stop(leader: "subprocess.Popen[bytes]") -> None:
    """Interrupt a group of processes, and kill what has not ended in time."""
    for number, seconds in ((signal.SIGINT, PATIENCE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError, PermissionError):  # it has ended
            os.killpg(leader.pid, number)
        with suppress(subprocess.TimeoutExpired):
            leader.wait(seconds)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore signals to stop, also in the programs that are run."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_on_signals() -> None:
    """Let all signals to stop be what Ctrl-C is, but those that are ignored."""
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
