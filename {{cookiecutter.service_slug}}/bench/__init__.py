"""Measure what one pod can carry, and derive from it what `deploy/` gives a pod.

`python -m bench` starts the service, loads it over HTTP and writes
`reports/capacity.json`; `rules.py` holds the rules that lead from there to `deploy/`.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent


class BenchError(Exception):
    """Nothing can be measured; the message gives the reason and the fix."""
