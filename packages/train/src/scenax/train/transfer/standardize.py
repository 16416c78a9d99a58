"""Features with mean 0 and standard deviation 1, by the statistics of those to fit on.

Letters in shapes: n m examples, d width of the features.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Float64

_ROWS = 4096
_LEAST_DEVIATION = 1e-5


@dataclasses.dataclass(frozen=True)
class Standardizer:
    """``(x - mean) / (std + 1e-5)``, in float64; the 1e-5 is big_vision's."""

    mean: Float64[np.ndarray, " d"]
    scale: Float64[np.ndarray, " d"]

    @classmethod
    def fit(cls, features: Float32[np.ndarray, "n d"]) -> "Standardizer":
        """Returns the one for which these features have mean 0 and standard deviation 1."""
        mean = features.mean(axis=0, dtype=np.float64)
        squares = np.zeros_like(mean)
        for rows in blocks(len(features)):
            squares += np.square(features[rows] - mean).sum(axis=0)
        return cls(mean, np.sqrt(squares / len(features)) + _LEAST_DEVIATION)

    def __call__(self, features: Float32[np.ndarray, "m d"]) -> Float64[np.ndarray, "m d"]:
        """Returns features standardized."""
        return (features - self.mean) / self.scale


def blocks(count: int, rows: int = _ROWS) -> Iterator[slice]:
    """Yields slices of at most ``rows`` that cover ``count``, so that float64 is never of all.

    >>> list(blocks(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))
