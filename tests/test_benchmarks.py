"""The comparison with other ways to serve a model, in its quick form: no timing."""

import pytest

from benchmarks import compare, wrk
from benchmarks.peers import SERVICE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not wrk.installed(), reason="wrk is not installed: apt-get install wrk"
    ),
]

QUICK = (SERVICE, "bare", "fastapi")


def test_every_server_gives_the_probabilities_of_scikit_learn() -> None:
    comparison = compare.measure(rounds=1, seconds=1, connections=(1, 8), names=QUICK)

    assert tuple(peer["name"] for peer in comparison["peers"]) == QUICK
    assert comparison["instances"] > 200
    for peer in comparison["peers"]:
        assert peer["failure"] is None
        assert peer["difference"] is not None
        assert peer["difference"] <= compare.TOLERANCE
        assert peer["versions"]["onnxruntime"]
        assert peer["seconds_to_ready"] and peer["resident_bytes"]
        assert peer["environment_bytes"]
        assert set(peer["figures"]) == {"1", "8"}
        for figures in peer["figures"].values():
            assert figures["rate"] > 0 and figures["ratio"]
            assert 0 < figures["p50"] <= figures["p99"]
        assert peer["title"] in compare.table(comparison)
