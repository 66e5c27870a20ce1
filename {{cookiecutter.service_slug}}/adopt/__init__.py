"""Adopt a table: `make adopt DATA=FILE LABEL=COLUMN` writes the contract and trains.

`layout` finds out how a file is written, `infer` what its columns are, `write` changes
the files of the service, and `__main__` asks, trains, and takes all back if that fails.
"""
