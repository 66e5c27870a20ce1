"""The model in MLflow's own form: `python mlflow_save.py DIRECTORY`."""

import json
import sys
from pathlib import Path

import joblib
import mlflow.sklearn
import numpy as np
from mlflow.models import infer_signature

directory = Path(sys.argv[1])
pipeline = joblib.load(directory / "model.joblib")
features = np.array(json.loads((directory / "instances.json").read_text()))
mlflow.sklearn.save_model(
    pipeline,
    directory / "mlflow",
    signature=infer_signature(features, pipeline.predict_proba(features)),
    pyfunc_predict_fn="predict_proba",
)
