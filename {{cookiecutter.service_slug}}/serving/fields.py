"""From the fields of a contract to the arrays that an ONNX model takes.

Each field of `Instance` is an input of the model with its name.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

InstanceT = TypeVar("InstanceT", bound=BaseModel)

# What ONNX Runtime calls a type, and the type of the array that it takes.
DTYPES: dict[str, Any] = {
    "tensor(string)": np.object_,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def normalise(text: str) -> str:
    """Fold case, Unicode width and white space: the one text form the model sees.

    It runs here and not in the model, because lower-casing in C++ depends on the
    locales of the machine while Python's does not. Normalising twice changes nothing:
    it is toNFKC_Casefold of the Unicode Standard (section 3.13, D146) without the
    removal of ignorable characters.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFD", text).casefold()
    folded = unicodedata.normalize("NFKC", folded).casefold()
    folded = unicodedata.normalize("NFKC", folded)
    return " ".join(folded.split())


class Fields(Generic[InstanceT]):
    """The fields of a contract, as arrays for the inputs of a model."""

    def __init__(
        self, contract: type[InstanceT], input_types: Mapping[str, str]
    ) -> None:
        """`input_types` is what ONNX Runtime says of the model's inputs, by name.

        Raises ValueError if the two do not fit.
        """
        wanted = set(contract.model_fields)
        if set(input_types) != wanted:
            raise ValueError(
                f"The model takes the inputs {sorted(input_types)} but the contract "
                f"has {sorted(wanted)}. Train it again with this app/contract.py."
            )
        unknown = [given for given in input_types.values() if given not in DTYPES]
        if unknown:
            raise ValueError(
                f"The model takes inputs of {unknown}; known are {sorted(DTYPES)}."
            )
        self._dtypes = {name: DTYPES[given] for name, given in input_types.items()}
        self._texts = [
            name for name, dtype in self._dtypes.items() if dtype is np.object_
        ]

    def arrays(self, instances: Sequence[InstanceT]) -> dict[str, npt.NDArray[Any]]:
        """Return an array of shape (len(instances), columns) for each field.

        A field that is one value has one column; a list has as many as it has values,
        which must be the same number for all instances.
        """
        rows = len(instances)
        return {
            name: np.array(
                [getattr(instance, name) for instance in instances], dtype=dtype
            ).reshape(rows, -1)
            for name, dtype in self._dtypes.items()
        }

    def size(self, instances: Sequence[InstanceT]) -> int:
        """Return what the time of a prediction grows with: characters and instances."""
        return len(instances) + sum(
            len(getattr(instance, name))
            for instance in instances
            for name in self._texts
        )
