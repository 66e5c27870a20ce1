"""What it costs the service to be watched: metrics, log lines and request ids."""

from benchmarks.generated import BODY, PREDICT, python, served, trained
from benchmarks.results import quartiles, versions
from benchmarks.wrk import load

WATCHED = "import runpy; runpy.run_module('app', run_name='__main__')"
# The same service, put together without what watches it.
BARE = """
from serving import build, metrics
build.AccessLayer = lambda app, *_: app
metrics.Metrics.measure_calls = lambda self, call: call
metrics.Metrics.record_prediction = lambda self, answer: None
""" + WATCHED


def measure(
    rounds: int = 15, seconds: float = 2, connections: int = 32
) -> dict[str, object]:
    """Return the ratio of both request rates. Rounds alternate, as machines drift."""
    ratios = []
    with (
        trained() as service,
        served(service, "-c", BARE) as bare_server,
        served(service, "-c", WATCHED) as watched_server,
    ):
        bare, watched = bare_server.url + PREDICT, watched_server.url + PREDICT
        for url in (bare, watched):
            load(url, [BODY], connections, seconds)
        for turn in range(rounds):
            rates = {
                url: load(url, [BODY], connections, seconds).rate
                for url in ((bare, watched) if turn % 2 else (watched, bare))
            }
            ratios.append(rates[watched] / rates[bare])
            print(f"  round {turn + 1} of {rounds}: {ratios[-1]:.3f}", flush=True)
        found = versions(python(service), "fastapi", "prometheus-client", "uvicorn")

    return {
        "versions": found,
        "rounds": rounds,
        "connections": connections,
        **quartiles(ratios),
    }
