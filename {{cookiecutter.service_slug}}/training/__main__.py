"""Run all stages in one process: `python -m training data.language=hi`.

Use it to try a change: it writes into outputs/trial, and `make runs` has its scores.
Put permanent changes into training/conf and run `make train`: DVC then runs only the
changed stages and records the results.
"""

from training import evaluate, export, ingest, prepare, train
from training.gate import check_gate
from training.runs import record_pipeline
from training.schema import read_schema
from training.stage import command
from training.values import Config

STAGES = (ingest, prepare, train, evaluate, export)


def run(config: Config) -> None:
    """Run the stages in the order of dvc.yaml."""
    check_gate(read_schema().task, config.gate)
    for stage in STAGES:
        stage.run(config)


if __name__ == "__main__":
    written = [name for stage in STAGES for name in stage.WRITTEN]
    command(run, record_pipeline, written)()
