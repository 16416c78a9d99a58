"""What makes new examples of two: mixup (Zhang et al., arXiv 1710.09412).

Checked against the paper's formula, x̃ = λ x_i + (1 - λ) x_j and ỹ = λ y_i + (1 - λ) y_j.
Letters: k classes.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from scenax.data.pipeline import Example


@dataclasses.dataclass(frozen=True)
class Mixup:
    """Blends ``inputs`` and one-hot ``label`` of two examples, with λ from Beta(alpha, alpha).

    One λ is drawn for the two: the first becomes λ first + (1 - λ) second, the second the other
    way round. The Beta is symmetric, so each has the paper's distribution, and the two together
    keep the sum of their inputs and of their labels.
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"mixup needs alpha above 0, got {self.alpha}. Leave it out for none.")

    def __call__(
        self, first: Example, second: Example, rng: np.random.Generator
    ) -> tuple[Example, Example]:
        """Returns the two examples, each blended with the other.

        Raises:
          TypeError: if labels are class ids, which cannot be blended.
        """
        if not np.issubdtype(np.asarray(first["label"]).dtype, np.floating):
            raise TypeError(
                f"mixup needs one-hot labels, got {first['label']!r}. Use mixing.one_hot."
            )
        share = rng.beta(self.alpha, self.alpha)
        return _blend(first, second, share), _blend(second, first, share)


def _blend(example: Example, other: Example, share: float) -> Example:
    own, others = np.float32(share), np.float32(1 - share)
    return example | {
        name: own * example[name] + others * other[name] for name in ("inputs", "label")
    }


def one_hot(class_id: int, num_classes: int) -> Float[np.ndarray, " k"]:
    """Returns float32 zeros with a one at ``class_id``.

    >>> one_hot(1, 3)
    array([0., 1., 0.], dtype=float32)
    """
    vector = np.zeros(num_classes, np.float32)
    vector[class_id] = 1
    return vector
