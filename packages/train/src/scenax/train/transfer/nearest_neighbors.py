"""k nearest neighbours by cosine similarity, whose votes are weighted.

As DINO (arXiv 2104.14294, after Wu et al., arXiv 1805.01978) has it: a neighbour of similarity c
votes for its class with exp(c / 0.07). Checked against all similarities in numpy.

Letters in shapes: m questions, n training examples, d width, s choices.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from scenax.train.transfer.features import Features, Splits
from scenax.train.transfer.standardize import blocks
from scenax.train.transfer.sweep import Sweep

KS = (10, 20, 100, 200)
TEMPERATURE = 0.07

_SIMILARITIES = 2**26
"""How many are in memory at a time: a quarter of a GiB."""
_LEAST_NORM = 1e-12


def nearest_neighbors(
    splits: Splits, *, ks: Sequence[int] = KS, temperature: float = TEMPERATURE
) -> Sweep:
    """Returns the accuracy of every number of neighbours.

    Args:
      splits: the features; those of training have to fit on one device.
      ks: numbers of neighbours.
      temperature: the smaller, the more the nearest ones count.

    Raises:
      ValueError: if an option is out of its range, or there are fewer training examples.
    """
    most = len(splits.train)
    if not ks or min(ks) < 1 or max(ks) > most:
        raise ValueError(
            f"ks have to be numbers of neighbours from 1 to {most}, the number of training "
            f"examples, got {list(ks)}."
        )
    if temperature <= 0:
        raise ValueError(f"temperature has to be positive, got {temperature}.")
    keys = jnp.asarray(_unit(splits.train.features))
    labels = jnp.asarray(splits.train.labels)
    options = {"ks": tuple(ks), "num_classes": splits.num_classes}
    guess = functools.partial(_guesses, keys, labels, jnp.float32(temperature), **options)

    def accuracies(examples: Features) -> Float[np.ndarray, "1 s"]:
        size = min(len(examples), max(1, _SIMILARITIES // most))
        correct = np.zeros(len(ks))
        for rows in blocks(len(examples), size):
            questions, truth = _unit(examples.features[rows]), examples.labels[rows]
            # All blocks have one shape, for which it is compiled.
            questions = np.pad(questions, ((0, size - len(truth)), (0, 0)))
            guesses = jax.device_get(guess(jnp.asarray(questions)))[:, : len(truth)]
            correct += (guesses == truth).sum(axis=1)
        return (correct / len(examples))[None]

    return Sweep(
        choices=tuple({"k": k} for k in ks),
        validation=accuracies(splits.validation),
        test=accuracies(splits.test),
    )


def _unit(features: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _LEAST_NORM)


@functools.partial(jax.jit, static_argnames=("ks", "num_classes"))
def _guesses(
    keys: Float[Array, "n d"],
    labels: Int[Array, " n"],
    temperature: Float[Array, ""],
    questions: Float[Array, "m d"],
    *,
    ks: tuple[int, ...],
    num_classes: int,
) -> Int[Array, "s m"]:
    similarities = jnp.matmul(questions, keys.T, precision=jax.lax.Precision.HIGHEST)
    # Without the barrier XLA merges the slices below into it and sorts everything: 12 times slower.
    nearest, places = jax.lax.optimization_barrier(jax.lax.top_k(similarities, max(ks)))
    # Relative to the nearest, which changes no vote and never overflows.
    weights, classes = jnp.exp((nearest - nearest[:, :1]) / temperature), labels[places]
    rows = jnp.arange(len(questions))[:, None]

    def vote(k: int) -> Int[Array, " m"]:
        votes = jnp.zeros((len(questions), num_classes))
        return votes.at[rows, classes[:, :k]].add(weights[:, :k]).argmax(axis=1)

    return jnp.stack([vote(k) for k in ks])
