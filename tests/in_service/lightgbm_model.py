"""Write a model of LightGBM as ONNX, with rows and what LightGBM says of them.

`python lightgbm_model.py DIRECTORY`, in an environment of its own.
"""

import json
import sys
from pathlib import Path

from lightgbm import LGBMClassifier
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_wine

place = Path(sys.argv[1])
wine = load_wine(as_frame=True)
rows = wine.data.rename(columns=lambda name: name.replace("/", "_"))
names = [str(wine.target_names[number]) for number in wine.target]
model = LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1).fit(rows, names)

inputs = [("input", FloatTensorType([None, rows.shape[1]]))]
onnx = convert_lightgbm(model, initial_types=inputs, target_opset=15)
(place / "given.onnx").write_bytes(onnx.SerializeToString())
rows.to_csv(place / "rows.csv", index=False)
answers = [
    dict(zip(model.classes_.tolist(), shares, strict=True))
    for shares in model.predict_proba(rows).tolist()
]
content = {"instances": rows.to_dict("records"), "answers": answers}
(place / "answers.json").write_text(json.dumps(content), encoding="utf-8")
