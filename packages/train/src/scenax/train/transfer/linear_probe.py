"""A linear classifier trained by SGD on features in memory: a grid of options, all at once.

Linear evaluation as in MoCo (arXiv 1911.05722) and DINO (arXiv 2104.14294), which report the best
of a range of learning rates; here without augmentation, since the features are those of one view.
SGD with momentum 0.9, half a cosine to 0, softmax cross-entropy, weights from 0; features are
standardized. Compared with scikit-learn's logistic regression.

Letters in shapes: b batch, n m examples, d width, k classes, s choices, t steps of an epoch.
"""

import functools
import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from scenax.train.progress import Progress
from scenax.train.transfer.features import Features, Splits
from scenax.train.transfer.standardize import Standardizer, blocks
from scenax.train.transfer.sweep import Sweep

LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
MOMENTUM = 0.9


class _Probe(NamedTuple):
    """Parameters of a classifier, or of all of them with the choices as another axis in front."""

    weight: Float[Array, "*s d k"]
    bias: Float[Array, "*s k"]


_State: TypeAlias = tuple[_Probe, _Probe]
"""Parameters and momenta."""


def linear_probe(
    splits: Splits,
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    weight_decays: Sequence[float] = (0.0,),
    epochs: int = 100,
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sweep:
    """Returns the accuracy of every learning rate with every weight decay.

    Args:
      splits: the features; those of training have to fit on one device.
      learning_rates: the highest ones, at the beginning.
      weight_decays: are added to gradients of weights, not of biases.
      epochs: how often every example is seen, but for an incomplete last batch of each time.
      batch_size: at most the number of training examples.
      seed: decides the order.
      progress: is told of every epoch.

    Raises:
      ValueError: if an option is empty or out of its range.
    """
    _check(learning_rates, weight_decays, epochs, batch_size)
    grid = list(itertools.product(learning_rates, weight_decays))
    rates, decays = jnp.asarray(np.array(grid, np.float32).T)
    standardize = Standardizer.fit(splits.train.features)
    x, labels = _in_memory(standardize, splits.train), jnp.asarray(splits.train.labels)
    batch_size = min(batch_size, len(labels))
    steps = len(labels) // batch_size
    shape = (len(grid), x.shape[1], splits.num_classes)
    probes = _Probe(jnp.zeros(shape), jnp.zeros((shape[0], shape[2])))
    state: _State = (probes, jax.tree.map(jnp.zeros_like, probes))
    shares = 0.5 * (1 + np.cos(np.pi * np.arange(epochs * steps) / (epochs * steps)))
    shares = jnp.asarray(shares.astype(np.float32).reshape(epochs, steps))
    generator = np.random.default_rng(seed)
    began = time.monotonic()
    for epoch in range(epochs):
        order = generator.permutation(len(labels))[: steps * batch_size].reshape(steps, batch_size)
        state = _epoch(state, x, labels, jnp.asarray(order), shares[epoch], rates, decays)
        if progress is not None:
            jax.block_until_ready(state)
            seen = (epoch + 1) * steps * batch_size
            progress.update(epoch + 1, {}, seen / (time.monotonic() - began))
    return Sweep(
        choices=tuple({"learning_rate": rate, "weight_decay": decay} for rate, decay in grid),
        validation=_accuracies(state[0], standardize, splits.validation)[None],
        test=_accuracies(state[0], standardize, splits.test)[None],
    )


def _check(
    learning_rates: Sequence[float], weight_decays: Sequence[float], epochs: int, batch_size: int
) -> None:
    if not learning_rates or min(learning_rates) <= 0:
        raise ValueError(f"learning_rates have to be positive, got {list(learning_rates)}.")
    if not weight_decays or min(weight_decays) < 0:
        raise ValueError(f"weight_decays have to be at least 0, got {list(weight_decays)}.")
    if epochs < 1 or batch_size < 1:
        raise ValueError(
            f"epochs and batch_size have to be at least 1, got {epochs} and {batch_size}."
        )


def _in_memory(standardize: Standardizer, examples: Features) -> Float32[Array, "n d"]:
    parts = [
        standardize(examples.features[rows]).astype(np.float32) for rows in blocks(len(examples))
    ]
    return jnp.asarray(np.concatenate(parts))


def _loss(
    probe: _Probe, features: Float[Array, "b d"], labels: Int[Array, " b"]
) -> Float[Array, ""]:
    logits = features @ probe.weight + probe.bias[None]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -chosen.mean()


@functools.partial(jax.jit, donate_argnums=0)
def _epoch(
    state: _State,
    x: Float[Array, "n d"],
    labels: Int[Array, " n"],
    order: Int[Array, "t b"],
    shares: Float[Array, " t"],
    rates: Float[Array, " s"],
    decays: Float[Array, " s"],
) -> _State:
    """Updates all probes with the same batches, each by its own options."""

    def step(state: _State, batch: tuple[Array, Array]) -> tuple[_State, None]:
        rows, share = batch
        features, ids = x[rows], labels[rows]

        def one(
            probe: _Probe, momentum: _Probe, rate: Float[Array, ""], decay: Float[Array, ""]
        ) -> _State:
            gradient = jax.grad(_loss)(probe, features, ids)
            gradient = gradient._replace(weight=gradient.weight + decay * probe.weight)
            momentum = jax.tree.map(lambda m, g: MOMENTUM * m + g, momentum, gradient)
            return jax.tree.map(lambda p, m: p - share * rate * m, probe, momentum), momentum

        return jax.vmap(one)(*state, rates, decays), None

    return jax.lax.scan(step, state, (order, shares))[0]


def _accuracies(
    probes: _Probe, standardize: Standardizer, examples: Features
) -> Float[np.ndarray, " s"]:
    """Returns the top-1 accuracy of every probe; 0 for one that diverged."""
    correct = np.zeros(len(probes.bias))
    for rows in blocks(len(examples)):
        x = jnp.asarray(standardize(examples.features[rows]).astype(np.float32))
        correct += jax.device_get(_correct(probes, x, jnp.asarray(examples.labels[rows])))
    finite = np.isfinite(jax.device_get(probes.weight)).all(axis=(1, 2))
    return np.where(finite, correct / len(examples), 0.0)


@jax.jit
def _correct(probes: _Probe, x: Float[Array, "m d"], labels: Int[Array, " m"]) -> Int[Array, " s"]:
    def one(probe: _Probe) -> Int[Array, ""]:
        return ((x @ probe.weight + probe.bias[None]).argmax(axis=1) == labels).sum()

    return jax.lax.map(one, probes)
