"""The model that all serve, and what they are asked: `python train.py DIRECTORY`.

A logistic regression tells malignant from benign tumours by 30 measurements (the
breast cancer data that comes with scikit-learn). Half of the rows train it, the other
half are the instances, with the probabilities that scikit-learn gives for them. It
runs in the environment in which a service is trained.
"""

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

OPSET = 17  # that of training/export.py in a service
ONNX_FILE = "model.onnx"

target = Path(sys.argv[1])
data = load_breast_cancer()
train, instances, truth, held_out = train_test_split(
    data.data, data.target, test_size=0.5, stratify=data.target, random_state=0
)
pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(train, truth)
probabilities = pipeline.predict_proba(instances)
content = to_onnx(
    pipeline,
    initial_types=[("features", FloatTensorType([None, train.shape[1]]))],
    options={"zipmap": False},
    target_opset=OPSET,
).SerializeToString()
labels = data.target_names.tolist()
shares = np.bincount(truth) / len(truth)
digest = hashlib.sha256(content).hexdigest()
sidecar = {
    "version": digest[:12],
    "sha256": digest,
    "task": "classification",
    "fields": {"features": f"vector of {train.shape[1]}"},
    "labels": labels,
    "refitted": False,
    "metrics": {"accuracy": pipeline.score(instances, held_out)},
    "data_hash": "sha256:" + hashlib.sha256(data.data.tobytes()).hexdigest(),
    "git_revision": "unknown",
    "trained_at": datetime.now(UTC).isoformat(),
    "training_shares": dict(zip(labels, shares.tolist(), strict=True)),
    "golden_instance": {"features": instances[0].tolist()},
    "golden_answer": probabilities[0].tolist(),
}
(target / ONNX_FILE).write_bytes(content)
(target / "model.json").write_text(json.dumps(sidecar))
joblib.dump(pipeline, target / "model.joblib")
(target / "instances.json").write_text(json.dumps(instances.tolist()))
(target / "expected.json").write_text(json.dumps(probabilities[:, 1].tolist()))
