"""The ML Test Score of the service: what production asks of data, model and code.

After Breck et al., “The ML Test Score: A Rubric for ML Production Readiness and
Technical Debt Reduction” (2017), in our words. What is done by hand and written down
has half a point, what runs by itself a whole one. The score is that of the weakest of
the four parts.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from checks.generated import MODEL_CARD
from checks.markdown import sections
from checks.repository import Repository
from checks.results import Result, State
from checks.stubs import is_stub

PARTS = ("Data", "Model", "Infrastructure", "Monitoring")


class Facts:
    """What answers the questions: the repository, and the results of the rules."""

    def __init__(self, repository: Repository, results: Mapping[str, Result]) -> None:
        self.repository = repository
        self._results = results

    def follows(self, *rules: str) -> bool:
        """Return whether the rules are followed, not just waived."""
        return all(self._results[rule].state is State.DONE for rule in rules)

    def has(self, *names: str) -> bool:
        """Return whether there are these files."""
        return all(self.repository.has(name) for name in names)

    def says(self, start: str, pattern: str) -> bool:
        """Return whether the text of a file below `start` matches a pattern."""
        return any(
            re.search(pattern, self.repository.read(name), re.MULTILINE)
            for name in self.repository.files
            if name.startswith(start)
        )

    def alerts(self, pattern: str) -> bool:
        """Return whether the expression of an alert matches a pattern."""
        return any(re.search(pattern, one["expr"]) for one in self.repository.alerts)

    def runs(self, command: str) -> bool:
        """Return whether a pipeline of the CI runs a command."""
        return any(
            command in self.repository.read(n) for n in self.repository.pipelines
        )

    def writes(self, title: str) -> bool:
        """Return whether a person has written a section of the model card."""
        if not self.has(MODEL_CARD):
            return False
        texts = {
            one.title: one.text for one in sections(self.repository.read(MODEL_CARD))
        }
        text = texts.get(title, "")
        return not is_stub(text) and "TODO" not in text

    def gates(self) -> bool:
        """Return whether a model must reach a bound."""
        config = self.repository.yaml("training/conf/config.yaml")
        return bool(config.get("gate"))


@dataclass(frozen=True)
class Way:
    """Something that answers a question, in words, and whether a service has it."""

    what: str
    holds: Callable[[Facts], bool]


@dataclass(frozen=True)
class Question:
    """A question, how it may be answered, and what to do where it is not."""

    part: str
    text: str
    advice: str
    automatic: Way | None = None
    by_hand: Way | None = None


@dataclass(frozen=True)
class Answer:
    """The points of a question: 0, 0.5 or 1; `advice` is empty with a whole one."""

    part: str
    question: str
    points: float
    evidence: str
    advice: str


QUESTIONS = (
    Question(
        "Data",
        "Each field has a schema, and rows that break it are refused",
        "Validate the rows of the training by the contract.",
        Way(
            "training and serving validate by app/contract.py",
            lambda f: f.says("training/", r"LabelledInstance")
            and f.says("app/api.py", r"PredictRequest|Instance"),
        ),
    ),
    Question(
        "Data",
        "Each field improves the model",
        "Drop fields that the report shows to be of no use, in a test of yours.",
        by_hand=Way(
            "`make report` shows what the model loses without each field",
            lambda f: f.says("training/diagnosis.py", r"def permute_fields"),
        ),
    ),
    Question(
        "Data",
        "No field costs more than it is worth",
        "Compare `make bench` with and without a field, in the pipeline.",
        by_hand=Way(
            "`make bench` measures what requests cost",
            lambda f: f.has("reports/capacity.json"),
        ),
    ),
    Question(
        "Data",
        "The data may be used for this",
        "Write by which right, in “Data” of docs/model-card.md.",
        by_hand=Way("the model card says so", lambda f: f.writes("Data")),
    ),
    Question(
        "Data",
        "Personal data are protected all along the pipeline",
        "Write which personal data there are in “Data” of docs/model-card.md.",
        Way(
            "no text of a request is logged, by a test; the model card names the rest",
            lambda f: f.says("app/settings.py", r"log_texts: bool = Field\(\s*False")
            and f.says("tests/app/", r"LOG_TEXTS")
            and f.writes("Data"),
        ),
        Way(
            "no text of a request is logged",
            lambda f: f.says("app/settings.py", r"log_texts: bool = Field\(\s*False"),
        ),
    ),
    Question(
        "Data",
        "A new field is there in hours",
        "Let the columns follow from the contract.",
        Way(
            "columns, schema and forms follow from app/contract.py",
            lambda f: f.says("training/", r"read_kinds"),
        ),
    ),
    Question(
        "Data",
        "The code that turns fields into columns is tested",
        "Test it in tests/training and tests/serving.",
        Way(
            "tests of both sides",
            lambda f: f.has(
                "tests/training/test_models.py", "tests/serving/test_fields.py"
            ),
        ),
    ),
    Question(
        "Model",
        "The configuration of each model is in Git",
        "Commit training/conf, and what E1 asks for.",
        Way("E1", lambda f: f.follows("E1")),
        Way("training/conf", lambda f: f.has("training/conf/config.yaml")),
    ),
    Question(
        "Model",
        "Offline metrics agree with what users gain",
        "Collect what users correct (O3); write `result` of `success` (O7).",
        Way(
            "corrections of users are compared with the predictions",
            lambda f: f.has("feedback") and f.follows("O3"),
        ),
        Way(
            "the press release has the result",
            lambda f: "result" in (f.repository.press_release.get("success") or {}),
        ),
    ),
    Question(
        "Model",
        "The hyperparameters were searched",
        "Search them: `python -m training.train -m model=linear,boosting`.",
        by_hand=Way(
            "reports/runs.jsonl has a sweep",
            lambda f: f.has("reports/runs.jsonl")
            and '"sweep": "' in f.repository.read("reports/runs.jsonl"),
        ),
    ),
    Question(
        "Model",
        "It is known how fast a model ages",
        "Give the rows a `time`: then the latest are the test.",
        by_hand=Way(
            "the latest rows are the test",
            lambda f: f.says("app/contract.py", r"^    time:"),
        ),
    ),
    Question(
        "Model",
        "A simpler model is worse",
        "Compare with a baseline before the export.",
        Way(
            "no model is exported that is worse than a guess by frequency or mean",
            lambda f: f.gates() and f.says("training/", r"baseline"),
        ),
    ),
    Question(
        "Model",
        "It is good enough on each important slice",
        "Bound the metrics of your slices in a test.",
        by_hand=Way(
            "`make report` and `make compare` show slices",
            lambda f: f.says("training/diagnosis.py", r"def cut_slices"),
        ),
    ),
    Question(
        "Model",
        "Unfair treatment of groups of people was looked for",
        "Write what was found in “Limits” of docs/model-card.md.",
        by_hand=Way("the model card says it", lambda f: f.writes("Limits")),
    ),
    Question(
        "Infrastructure",
        "The same data and seed give the same model",
        "Do what E1 asks for.",
        Way("E1, and a test of the pipeline", lambda f: f.follows("E1")),
        Way(
            "the configuration has a seed",
            lambda f: f.says("training/conf/config.yaml", r"^seed:"),
        ),
    ),
    Question(
        "Infrastructure",
        "The code of the models has unit tests",
        "Write them in tests/training.",
        Way("tests/training", lambda f: f.has("tests/training/test_models.py")),
    ),
    Question(
        "Infrastructure",
        "The whole pipeline is tested together",
        "Test it from the data to the model.",
        Way(
            "tests/training/test_pipeline.py, on every push",
            lambda f: f.has("tests/training/test_pipeline.py") and f.runs("make test"),
        ),
        Way("a test", lambda f: f.has("tests/training/test_pipeline.py")),
    ),
    Question(
        "Infrastructure",
        "A weak model is not served",
        "Give `gate` of training/conf/config.yaml bounds.",
        Way("the gate stops its export", lambda f: f.gates()),
    ),
    Question(
        "Infrastructure",
        "One example can be followed through the model",
        "Keep the examples that matter as a test.",
        by_hand=Way("`make ask`", lambda f: "ask" in f.repository.verbs),
    ),
    Question(
        "Infrastructure",
        "A release is tried before it serves all",
        "Let the pipeline deploy to a stage before production, and ask it there.",
        Way(
            "dev and stage answer predictions before prod is deployed",
            lambda f: f.has("deploy/overlays/stage") and f.runs("make smoke"),
        ),
        Way("`make smoke`", lambda f: "smoke" in f.repository.verbs),
    ),
    Question(
        "Infrastructure",
        "The release before is back in minutes",
        "Bring `make rollback` back.",
        Way(
            "the pipeline rolls back",
            lambda f: "rollback" in f.repository.verbs and f.runs("make rollback"),
        ),
        Way("`make rollback`", lambda f: "rollback" in f.repository.verbs),
    ),
    Question(
        "Monitoring",
        "Changes of its dependencies are announced",
        "Let the pipeline run `make upgrade`.",
        Way("the pipeline proposes upgrades", lambda f: f.runs("make upgrade")),
        Way("`make upgrade`", lambda f: "upgrade" in f.repository.verbs),
    ),
    Question(
        "Monitoring",
        "Requests keep to the schema of the training data",
        "Write an alert on the share of requests that are refused (422).",
        Way("an alert on refused requests", lambda f: f.alerts(r"422")),
        Way(
            "requests that break the contract are refused and counted",
            lambda f: f.says("serving/problems.py", r"contract-violation"),
        ),
    ),
    Question(
        "Monitoring",
        "Training and serving compute the same",
        "Compare both before the export: `parity` of training/conf/config.yaml.",
        Way(
            "parity before the export, the golden example before readiness",
            lambda f: f.says("training/conf/config.yaml", r"^parity:")
            and f.says("serving/model.py", r"golden_answer"),
        ),
    ),
    Question(
        "Monitoring",
        "The age of the model is watched",
        "Write an alert on the day of the training, as `model_info` has it.",
        Way("an alert", lambda f: f.alerts(r"trained_at|model_age")),
        Way(
            "the metric `model_info` tells the day of the training",
            lambda f: f.says("serving/metrics.py", r"trained_at"),
        ),
    ),
    Question(
        "Monitoring",
        "NaN is never answered",
        "Refuse what the model answers with NaN.",
        Way(
            "such an answer is the problem `no-prediction`",
            lambda f: f.says("serving/problems.py", r"no-prediction"),
        ),
    ),
    Question(
        "Monitoring",
        "Latency, throughput, memory and CPU are watched",
        "Do what M2 and M3 ask for.",
        Way("M2 and M3", lambda f: f.follows("M2", "M3")),
    ),
    Question(
        "Monitoring",
        "The quality of what is served is watched",
        "Write an alert on what users correct.",
        Way(
            "an alert on what users correct",
            lambda f: f.alerts(r"feedback")
            or f.says("monitoring/feedback/alerts.yaml", r"feedback_total"),
        ),
        Way(
            "an alert on the distribution of the labels",
            lambda f: f.alerts(r"label_drift"),
        ),
    ),
)


def answer(question: Question, facts: Facts) -> Answer:
    """Return the points of a question."""
    part, text = question.part, question.text
    for points, way in ((1.0, question.automatic), (0.5, question.by_hand)):
        if way and is_seen(way, facts):
            advice = "" if points == 1 else question.advice
            return Answer(part, text, points, way.what, advice)
    return Answer(part, text, 0.0, "", question.advice)


def is_seen(way: Way, facts: Facts) -> bool:
    """Return whether a way is taken. A file that cannot be read counts as no.

    The rules report such files.
    """
    try:
        return way.holds(facts)
    except Exception:
        return False


def answer_all(repository: Repository, results: list[Result]) -> list[Answer]:
    """Return the points of all questions; `results` are those of all rules."""
    facts = Facts(repository, {one.rule: one for one in results})
    return [answer(question, facts) for question in QUESTIONS]


def score(answers: Sequence[Answer]) -> dict[str, float]:
    """Return the points of each part; the score is the least of them."""
    return {
        part: sum(one.points for one in answers if one.part == part) for part in PARTS
    }
