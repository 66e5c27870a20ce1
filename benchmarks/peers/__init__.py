"""The servers that are compared: each serves the same model on one core.

How each is set up follows its own documentation for throughput with one worker. Where
a framework leaves uvloop and httptools to its user, its requirements name them, as the
service has them too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Features = list[float]


@dataclass(frozen=True)
class Peer:
    """A server: how it is made, started, asked and understood.

    `environment` names the one it runs in, and the file beside this one with what is
    in it; `python` says which Python that needs, if not the one of the service.
    `{port}`, `{second_port}`, `{third_port}` and the directories `{model}`,
    `{service}`, `{work}` (empty, its own) and `{here}` are filled in where they stand.
    `body` makes a request of an instance, `read` takes from an answer the probability
    of class 1, `versions` are the distributions worth naming. A `restless` server uses
    its core while nobody asks it, and is paused while others have their turn.
    """

    name: str
    title: str
    environment: str
    command: tuple[str, ...]
    path: str
    ready: str
    body: Callable[[Features], Any]
    read: Callable[[Any], float]
    versions: tuple[str, ...]
    directory: str = "{work}"
    python: str | None = None
    prepare: tuple[str, ...] = ()
    restless: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


SERVICE = "service"  # the name of what the others are compared with
BENIGN = "benign"  # the label of class 1


def _score(answer: Any) -> float:
    prediction = answer["predictions"][0]
    score: float = prediction["score"]
    return score if prediction["label"] == BENIGN else 1 - score


_UVICORN = (
    *("uvicorn", "--app-dir", "{here}", "--port", "{port}", "--no-access-log"),
    *("--log-level", "warning"),
)
_OURS = ("fastapi", "uvicorn", "onnxruntime")

PEERS = (
    Peer(
        name=SERVICE,
        title="The service",
        environment="service",
        command=("python", "-m", "app"),
        directory="{service}",
        variables={"PORT": "{port}", "MODEL_DIR": "{model}"},
        path="/v1/predict",
        ready="/readyz",
        body=lambda features: {"instances": [{"features": features}]},
        read=_score,
        versions=_OURS,
    ),
    Peer(
        name="bare",
        title="Bare ASGI function, ONNX Runtime",
        environment="service",
        command=(*_UVICORN, "bare:app"),
        variables={"MODEL_DIR": "{model}"},
        path="/predict",
        ready="/ready",
        body=lambda features: {"features": features},
        read=lambda answer: answer["probabilities"][1],
        versions=("uvicorn", "onnxruntime"),
    ),
    Peer(
        name="fastapi",
        title="FastAPI by hand, ONNX Runtime",
        environment="service",
        command=(*_UVICORN, "fastapi_by_hand:app"),
        variables={"MODEL_DIR": "{model}"},
        path="/predict",
        ready="/ready",
        body=lambda features: {"features": features},
        read=lambda answer: answer["probabilities"][1],
        versions=_OURS,
    ),
    Peer(
        name="fastapi-tutorial",
        title="FastAPI as in tutorials, scikit-learn",
        environment="fastapi_tutorial",
        # As tutorials start it: with uvicorn's access log.
        command=("uvicorn", "--app-dir", "{here}", "--port", "{port}")
        + ("fastapi_tutorial:app",),
        variables={"MODEL_DIR": "{model}"},
        path="/predict",
        ready="/ready",
        body=lambda features: {"features": features},
        read=lambda answer: answer["probabilities"][1],
        versions=("fastapi", "uvicorn", "scikit-learn"),
    ),
    Peer(
        name="litserve",
        title="LitServe with batches, ONNX Runtime",
        environment="litserve",
        command=("python", "{here}/litserve_onnx.py", "{port}"),
        variables={"MODEL_DIR": "{model}"},
        path="/predict",
        ready="/health",
        body=lambda features: {"features": features},
        read=lambda answer: answer["probabilities"][1],
        versions=("litserve", "uvicorn", "onnxruntime"),
        restless=True,  # its worker polls a queue: a tenth of the core
    ),
    Peer(
        name="bentoml",
        title="BentoML with adaptive batches, ONNX Runtime",
        environment="bentoml",
        command=("bentoml", "serve", "bentoml_onnx:Classifier")
        + ("--working-dir", "{here}", "--host", "127.0.0.1", "--port", "{port}"),
        variables={"MODEL_DIR": "{model}", "BENTOML_DO_NOT_TRACK": "True"}
        | {"BENTOML_HOME": "{work}"},
        path="/predict",
        ready="/readyz",
        body=lambda features: {"features": [features]},
        read=lambda answer: answer[0][1],
        versions=("bentoml", "uvicorn", "onnxruntime"),
    ),
    Peer(
        name="mlserver",
        title="MLServer, scikit-learn, as installed",
        environment="mlserver",
        python=">=3.11,<3.13",
        # Its default is one inference worker beside the server (parallel_workers=1).
        command=("mlserver", "start", "{model}"),
        variables={
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": "{port}",
            "MLSERVER_GRPC_PORT": "{second_port}",
            "MLSERVER_METRICS_PORT": "{third_port}",
            "MLSERVER_MODEL_NAME": "tumours",
            "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_sklearn.SKLearnModel",
            "MLSERVER_MODEL_URI": "{model}/model.joblib",
        },
        path="/v2/models/tumours/infer",
        ready="/v2/models/tumours/ready",
        body=lambda features: {
            "inputs": [
                {
                    "name": "features",
                    "shape": [1, len(features)],
                    "datatype": "FP64",
                    "data": features,
                }
            ],
            "outputs": [{"name": "predict_proba"}],
        },
        read=lambda answer: answer["outputs"][0]["data"][1],
        versions=("mlserver", "uvicorn", "scikit-learn"),
    ),
    Peer(
        name="mlflow",
        title="MLflow, scikit-learn, as installed",
        environment="mlflow",
        prepare=("python", "{here}/mlflow_save.py", "{model}"),
        command=("mlflow", "models", "serve", "--model-uri", "{model}/mlflow")
        + ("--host", "127.0.0.1", "--port", "{port}", "--env-manager", "local"),
        variables={"MLFLOW_DISABLE_TELEMETRY": "true"},
        path="/invocations",
        ready="/health",
        body=lambda features: {"inputs": [features]},
        read=lambda answer: answer["predictions"][0][1],
        versions=("mlflow", "uvicorn", "scikit-learn"),
    ),
)
