"""Compare the request rates of two variants of the service, in one run.

    python -m benchmarks.rate                        # this template to release 0.3.0
    python -m benchmarks.rate --b-commit 1a2b3c4     # to another commit
    python -m benchmarks.rate --b-commit "" --a-env NAME=VALUE --a-header "Name: value"

The last one compares this template with itself: A is served with a variable and asked
with a header, B without. Rounds alternate, as machines drift; a ratio is made within a
round. Both servers start several times, as the layout of a process in memory changes
its rate by a few per cent. `make bench PARTS=rate` keeps what the first one gives.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import cast

from benchmarks import wrk
from benchmarks.generated import BODY, PREDICT, python, served, trained
from benchmarks.results import RateLoad, quartiles, versions
from benchmarks.sections import rate_table
from tests.conftest import ROOT, SHARED, Service, bake_into

RELEASE = "7f0a23a"  # 0.3.0
KEPT = ROOT / "build" / "services"

STARTS = 8
ROUNDS = 3  # after each start
SECONDS = 2.0
CONNECTIONS = (1, 16, 64)


@dataclass(frozen=True)
class Variant:
    """A service and how it is asked; without a commit, that of the working tree."""

    commit: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it is called in the report; values may be secret and are left out."""
        names = [*self.variables, *(line.partition(":")[0] for line in self.headers)]
        of = f"the service of {self.commit or 'this template'}"
        return f"{of} with {', '.join(names)}" if names else of


THIS, THAT = Variant(), Variant(RELEASE)


def measure(
    a: Variant = THIS,
    b: Variant = THAT,
    starts: int = STARTS,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    connections: Sequence[int] = CONNECTIONS,
) -> dict[str, object]:
    """Serve both variants and load them in turns.

    Raises LoadError if there is no wrk, if the variants run on different versions or if
    a request fails, and CalledProcessError if Git does not know a commit.
    """
    if not wrk.installed():
        raise wrk.LoadError("wrk is not installed: apt-get install wrk.")
    rates: dict[int, list[tuple[float, float]]] = {many: [] for many in connections}
    with ExitStack() as stack:
        services = {
            commit: stack.enter_context(generate(commit))
            for commit in sorted({a.commit, b.commit})
        }
        of_a, of_b = services[a.commit], services[b.commit]
        found_versions = same_versions(of_a, of_b)
        for start in range(starts):
            found = load_in_turns((a, of_a), (b, of_b), rounds, seconds, connections)
            for many, pairs in found.items():
                rates[many] += pairs
            said = ", ".join(
                f"{summarise(pairs)['ratio']:.3f}" for pairs in found.values()
            )
            print(f"  start {start + 1} of {starts}: {said}", flush=True)
    return {
        "versions": found_versions,
        "a": a.title,
        "b": b.title,
        "starts": starts,
        "rounds": starts * rounds,
        "seconds": seconds,
        "rates": {str(many): summarise(pairs) for many, pairs in rates.items()},
    }


def load_in_turns(
    a: tuple[Variant, Service],
    b: tuple[Variant, Service],
    rounds: int,
    seconds: float,
    connections: Sequence[int],
) -> dict[int, list[tuple[float, float]]]:
    """Start both and return the rates of A and B in each round, by connections."""
    rates: dict[int, list[tuple[float, float]]] = {many: [] for many in connections}
    with (
        served(a[1], variables=a[0].variables) as server_a,
        served(b[1], variables=b[0].variables) as server_b,
    ):
        sides = ((server_a.url, a[0].headers), (server_b.url, b[0].headers))

        def load(side: int, many: int) -> float:
            url, headers = sides[side]
            return wrk.load(url + PREDICT, [BODY], many, seconds, headers).rate

        for side in (0, 1):
            load(side, max(connections))
        for turn in range(rounds):
            for many in connections:
                order = (0, 1) if turn % 2 else (1, 0)
                found = {side: load(side, many) for side in order}
                rates[many].append((found[0], found[1]))
    return rates


def same_versions(a: Service, b: Service) -> dict[str, str]:
    """Return the versions that both run on. Raises LoadError if they differ."""
    found, others = (versions(python(one), "fastapi", "uvicorn") for one in (a, b))
    if found != others:
        raise wrk.LoadError(
            f"A runs on {found}, B on {others}: a ratio would compare those, too. "
            "rm -r build/services makes that of a commit again."
        )
    return found


def summarise(pairs: Sequence[tuple[float, float]]) -> RateLoad:
    """Return the median rates, and the quartiles of the ratios A to B."""
    return {
        "a": round(median(a for a, _ in pairs), 1),
        "b": round(median(b for _, b in pairs), 1),
        **quartiles([a / b for a, b in pairs]),
    }


@contextmanager
def generate(commit: str) -> Iterator[Service]:
    """Generate and train the service of a commit, or of the working tree for "".

    That of a commit has an environment of its own, of the same Python, and is kept in
    build/services.
    """
    if not commit:
        with trained() as service:
            yield service
        return
    name = f"{commit}^{{commit}}"
    git = ("git", "-C", str(ROOT))
    found = subprocess.check_output([*git, "rev-parse", "--verify", name], text=True)
    home = KEPT / found.strip()
    service = Service(home / "intent-service")
    done = home / "done"
    if not done.exists():
        print(f"  generate and train the service of {commit}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        content = subprocess.check_output([*git, "archive", found.strip()])
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(home / "template", filter="data")
        bake_into(home, template=home / "template")
        shared = (SHARED / "bin" / "python").resolve()
        service.make("train", UV_PYTHON=str(shared) if shared.exists() else "3")
        done.touch()
    yield service


def main() -> int:
    """Print the ratios; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, commit in (("a", ""), ("b", RELEASE)):
        shown = commit or "the working tree"
        parser.add_argument(
            f"--{name}-commit", default=commit, help=f"of the template; else {shown}"
        )
        parser.add_argument(f"--{name}-env", action="append", default=[], type=pair)
        parser.add_argument(f"--{name}-header", action="append", default=[])
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="after each start")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    options = vars(parser.parse_args())
    a, b = (
        Variant(
            options[f"{name}_commit"],
            dict(options[f"{name}_env"]),
            tuple(options[f"{name}_header"]),
        )
        for name in "ab"
    )
    try:
        measured = measure(
            *(a, b, options["starts"], options["rounds"]),
            *(options["seconds"], options["connections"]),
        )
    except (wrk.LoadError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    rates = cast(dict[str, RateLoad], measured["rates"])
    print(f"A: {a.title}\nB: {b.title}\n\n{rate_table(rates)}")
    return 0


def pair(text: str) -> tuple[str, str]:
    """Split NAME=VALUE. Raises ValueError."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError
    return name, value


if __name__ == "__main__":
    sys.exit(main())
