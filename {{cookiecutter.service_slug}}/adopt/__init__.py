"""Adopt a table: `make adopt DATA=FILE LABEL=COLUMN` writes the contract and trains.

`layout` finds out how a file is written, `profile` what a column holds, `exclude` which
columns are no features, and `infer` what the contract should be. `write` has the text
of the files of the service, and `apply` changes them, or undoes it if that fails.

`make adopt MODEL=FILE LABELS=…` adopts an ONNX file: `model` plans, asks and writes,
`graph` gives the file the inputs of the contract, and `convert` is the stage of DVC.
"""
