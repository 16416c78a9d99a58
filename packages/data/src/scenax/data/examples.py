"""Examples, where they come from, and what is done to one or two of them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

Example = dict[str, Any]
"""One example: numpy arrays and scalars by name, as in a batch but without its first axis.

A value may be a mapping of arrays itself. What sources give is described in ``transforms``.
"""

Transform = Callable[[Example, np.random.Generator], Example]
"""From an example to the next; all its randomness is drawn from the generator it is given."""

PairTransform = Callable[[Example, Example, np.random.Generator], tuple[Example, Example]]
"""The same for two examples that are combined with one another."""


@runtime_checkable
class Source(Protocol):
    """Examples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


class ArraySource:
    """Examples that are the rows of arrays in memory.

    >>> ArraySource({"inputs": np.eye(2), "label": np.arange(2)})[1]["label"]
    array(1)
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        """``arrays`` have the examples as their first axis.

        Raises:
          ValueError: if they disagree about how many there are.
        """
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"Every array needs one row per example, got rows {counts}.")
        self.arrays = dict(arrays)
        self._length = next(iter(counts.values()))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int, /) -> Example:
        return {name: np.asarray(array[index]) for name, array in self.arrays.items()}
