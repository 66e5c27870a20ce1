"""All stages in one process, with overrides: `python -m training experiment=debug`.

For trying things out. What is to stay goes into training/conf and through `make train`,
where DVC runs only what has changed and records what came out.
"""

from omegaconf import DictConfig

from training import evaluate, export, ingest, prepare, train
from training.stage import PipelineError, command, in_sweep


def run(config: DictConfig) -> None:
    """Run the stages in the order of dvc.yaml.

    Raises PipelineError in a sweep: its jobs would overwrite each other's model.
    """
    if in_sweep():
        raise PipelineError("Sweep the training only: python -m training.train -m …")
    for stage in (ingest, prepare, train, evaluate, export):
        stage.run(config)


if __name__ == "__main__":
    command(run)()
