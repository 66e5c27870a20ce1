"""The gate: the metrics of each task, and the bounds that they must keep."""

from serving.contract import Task
from training.stage import PipelineError
from training.values import Gate

# What cross-validation, sweeps and comparisons look at; higher is better.
PRIMARY = {Task.CLASSIFICATION: "macro_f1", Task.REGRESSION: "r2"}
METRICS = {
    Task.CLASSIFICATION: ("macro_f1", "accuracy", "roc_auc", "pr_auc", "log_loss"),
    Task.REGRESSION: ("mae", "rmse", "r2"),
}
ERRORS = {"log_loss", "mae", "rmse"}  # lower is better


def check_gate(task: Task, gate: Gate) -> None:
    """Raise PipelineError if the gate names a metric of another task."""
    known = METRICS[task]
    for name in gate.model_dump():
        if name not in known:
            raise PipelineError(
                f"gate.{name} is no metric of a {task}, which the type of `label` in "
                f"app/contract.py asks for. Replace it in training/conf by one of: "
                f"{', '.join(known)}."
            )


def find_failures(
    task: Task, gate: Gate, scores: dict[str, float], baseline: dict[str, float]
) -> list[str]:
    """Return a line for each bound that the scores break, and for each baseline."""
    bounds: dict[str, float] = gate.model_dump()
    failures = [
        f"{name} is {scores[name]}, {_beyond(name)} the bound of {bound} (gate.{name})"
        for name, bound in bounds.items()
        if _is_worse(name, scores[name], bound)
    ]
    for name in bounds or [PRIMARY[task]]:
        if _is_worse(name, scores[name], baseline[name]):
            failures.append(
                f"{name} is {scores[name]}, but {baseline[name]} if every row gets "
                + ("the mean" if task is Task.REGRESSION else "the most frequent label")
            )
    return failures


def _is_worse(name: str, value: float, bound: float) -> bool:
    return value > bound if name in ERRORS else value < bound


def _beyond(name: str) -> str:
    return "above" if name in ERRORS else "below"
