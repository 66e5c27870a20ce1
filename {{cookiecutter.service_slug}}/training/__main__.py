"""Run all stages in one process: `python -m training experiment=debug`.

Use it for experiments. Put permanent changes into training/conf and run `make train`:
DVC then runs only the changed stages and records the results.
"""

from training import evaluate, export, ingest, prepare, train
from training.runs import record_pipeline
from training.schema import read_schema
from training.scores import check_gate
from training.stage import PipelineError, command, in_sweep
from training.values import Config


def run(config: Config) -> None:
    """Run the stages in the order of dvc.yaml.

    Raises PipelineError in a sweep, because the jobs would overwrite each other's
    files.
    """
    if in_sweep():
        raise PipelineError("Sweep the training only: python -m training.train -m …")
    check_gate(read_schema().task, config.gate)
    for stage in (ingest, prepare, train, evaluate, export):
        stage.run(config)


if __name__ == "__main__":
    command(run, record_pipeline)()
