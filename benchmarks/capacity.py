"""What the default service says of itself: `make bench` and `make soak` in a fresh one.

Its reports are taken over as they are.
"""

from pathlib import Path

from benchmarks.generated import python, trained
from benchmarks.results import versions
from benchmarks.service_report import read

REPORT = Path("reports/capacity.md")
SOAK = Path("outputs/soak.md")


def measure(seconds: float = 5, minutes: float = 10) -> dict[str, object]:
    """Run both verbs: so many seconds a measurement, so many minutes of soaking.

    Raises RuntimeError if the soak ends without a result, KeyError if the report has no
    table that is read here.
    """
    with trained() as service:
        print("  make bench", flush=True)
        service.make("bench", SECONDS=f"{seconds:g}")
        print("  make soak", flush=True)
        # It fails if it saw a fault; that is a result, too. Unbuffered, it tells the
        # faults after the rest.
        soak = service.make(
            "soak", check=False, MINUTES=f"{minutes:g}", PYTHONUNBUFFERED="1"
        )
        if not (service.path / SOAK).is_file():
            raise RuntimeError(f"make soak wrote no {SOAK}:\n{soak.stdout[-2000:]}")
        capacity, soaked = service.read(str(REPORT)), service.read(str(SOAK))
        found = versions(python(service), "fastapi", "onnxruntime", "uvicorn")

    # The last line is that of make.
    faults = soak.stdout.partition(soaked)[2].strip().splitlines()[:-1]
    return {
        "versions": found,
        **read(capacity),
        "soak": "\n".join([soaked, *faults]),
        "faults": max(len(faults), 1) if soak.returncode else 0,
    }
