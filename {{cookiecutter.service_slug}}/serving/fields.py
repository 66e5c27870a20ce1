"""Convert instances of a contract to the input arrays of an ONNX model.

The model has one input for each field of `Instance`, with the same name.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

InstanceT = TypeVar("InstanceT", bound=BaseModel)

# The dtype of the array for each input type of ONNX Runtime.
DTYPES: dict[str, Any] = {
    "tensor(string)": np.object_,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class Fields(Generic[InstanceT]):
    """Convert the fields of a contract to arrays for the inputs of a model."""

    def __init__(
        self, contract: type[InstanceT], input_types: Mapping[str, str]
    ) -> None:
        """`input_types` holds ONNX Runtime's type of each input, by name.

        Raises ValueError if the inputs do not match the contract.
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
                f"The model takes inputs of {unknown}; supported are {sorted(DTYPES)}."
            )
        self._dtypes = {name: DTYPES[given] for name, given in input_types.items()}
        self._texts = [
            name for name, dtype in self._dtypes.items() if dtype is np.object_
        ]

    def arrays(self, instances: Sequence[InstanceT]) -> dict[str, npt.NDArray[Any]]:
        """Return an array of shape (len(instances), columns) for each field.

        A scalar field has one column. A list field has one for each element, and its
        length must be the same in all instances.
        """
        rows = len(instances)
        return {
            name: np.array(
                [getattr(instance, name) for instance in instances], dtype=dtype
            ).reshape(rows, -1)
            for name, dtype in self._dtypes.items()
        }

    def size(self, instances: Sequence[InstanceT]) -> int:
        """Return characters plus instances: the time of a prediction grows with it."""
        return len(instances) + sum(
            len(getattr(instance, name))
            for instance in instances
            for name in self._texts
        )
