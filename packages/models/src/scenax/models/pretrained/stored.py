"""Arrays that are read when they are asked for, all of them or a part."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class WeightsError(ValueError):
    """Weights that cannot be read, or must not be."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array that is read, all of it or a part, when it is indexed."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[tuple[slice, ...]], np.ndarray]
    """From one slice for each axis, with its start and stop, to the elements, as an array."""

    @classmethod
    def of(cls, array: Any) -> "Stored":
        """Returns an array, of numpy or of jax, as one that is read."""

        def read(index: tuple[slice, ...]) -> np.ndarray:
            return np.asarray(array[(*index, ...)])

        return cls(tuple(array.shape), np.dtype(array.dtype), read)

    @classmethod
    def computed(
        cls, shape: Sequence[int], dtype: Any, function: Callable[[], np.ndarray]
    ) -> "Stored":
        """Returns an array that is computed, whole, when a part of it is asked for."""
        return cls(tuple(shape), np.dtype(dtype), lambda index: function()[(*index, ...)])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Reads a part: a slice of step 1 for each axis."""
        ranges = [one.indices(side) for one, side in zip(index, self.shape, strict=True)]
        return self.read(tuple(slice(start, stop) for start, stop, _ in ranges))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001
        """Reads all of it."""
        return np.asarray(self[(slice(None),) * self.ndim], dtype)

    def transpose(self, axes: Sequence[int]) -> "Stored":
        """Returns the array with its axes in another order."""
        read = functools.partial(_read_transposed, self, tuple(axes))
        return Stored(tuple(self.shape[i] for i in axes), self.dtype, read)


def _read_transposed(array: Stored, axes: tuple[int, ...], index: tuple[slice, ...]) -> np.ndarray:
    return array.read(tuple(index[axes.index(i)] for i in range(len(axes)))).transpose(axes)
