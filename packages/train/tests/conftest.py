"""A model and data without any framework: linear regression, through the contract."""

import functools
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.train import sharding, state

from . import faults, hosts

collect_ignore = ["goldens"]  # They need what the tests do not.


class Linear:
    """Squared error of a linear map of inputs with dropout; counts its training calls."""

    def init(self, rng, batch):
        width = batch["inputs"].shape[1]
        return {
            "params": {"w": jax.random.normal(rng, (width,)), "b": jnp.zeros(())},
            "stats": {"calls": jnp.zeros((), jnp.int32)},
        }

    def apply(self, variables, batch, *, train, rngs=None):
        inputs, stats = batch["inputs"], variables["stats"]
        if train:
            keep = jax.random.bernoulli(rngs["dropout"], 0.8, inputs.shape)
            inputs = jnp.where(keep, inputs / jnp.float32(0.8), jnp.float32(0))
            stats = {"calls": stats["calls"] + 1}
        params = variables["params"]
        return inputs @ params["w"] + params["b"], {"stats": stats}

    def loss_fn(self, outputs, batch, params=None):
        total, count = self.get_metrics_fn("train")(outputs, batch)["loss"]
        return total / count

    def get_metrics_fn(self, split):
        def metrics_fn(outputs, batch):
            mask = batch["batch_mask"]
            error = jnp.where(mask > 0, jnp.square(outputs - batch["label"]), jnp.float32(0))
            return {"loss": (error.sum(), mask.sum())}

        return metrics_fn


# optax's own arithmetic mixes integers and floats, which strict promotion does not allow.
jax.config.update("jax_numpy_dtype_promotion", "standard")

TRUTH = np.array([1.0, -2.0, 0.5], np.float32)


def example(index: int) -> tuple[np.ndarray, np.float32]:
    rng = np.random.default_rng(index)
    inputs = rng.normal(size=3).astype(np.float32)
    return inputs, np.float32(inputs @ TRUTH + 0.1 * rng.normal())


def batch_of(indices, size=None) -> dict[str, np.ndarray]:
    """A batch of the examples of these indices, padded to ``size``."""
    size = len(indices) if size is None else size
    batch = {
        "inputs": np.zeros((size, 3), np.float32),
        "label": np.zeros(size, np.float32),
        "batch_mask": np.zeros(size, np.float32),
    }
    for row, index in enumerate(indices):
        batch["inputs"][row], batch["label"][row] = example(index)
        batch["batch_mask"][row] = 1
    return batch


class Stream:
    """Endless batches of eight with a position; ``poison`` is the batch with a NaN in it."""

    def __init__(self, poison: int | None = None) -> None:
        self._next = 0
        self._poison = poison

    def __iter__(self):
        return self

    def __next__(self):
        batch = batch_of(range(8 * self._next, 8 * self._next + 8))
        if self._next == self._poison:
            batch["inputs"][0] = np.nan
        self._next += 1
        return batch

    def get_state(self):
        return {"next": self._next}

    def set_state(self, state):
        self._next = state["next"]


class Split(list):
    """All batches of ``count`` examples, the last one padded."""

    def __init__(self, count: int, size: int) -> None:
        indices = iter(range(10_000, 10_000 + count))
        super().__init__(
            batch_of(part, size) for part in iter(lambda: list(itertools.islice(indices, size)), [])
        )


@pytest.fixture
def toy():
    """The names of this file."""
    return types.SimpleNamespace(Linear=Linear, Stream=Stream, Split=Split, batch_of=batch_of)


@pytest.fixture
def mesh():
    return sharding.make_mesh()


@pytest.fixture
def make_state(mesh):
    """A function that makes a fresh state for an optimizer."""
    return lambda optimizer, seed=0: state.create_state(
        Linear(), optimizer, batch_of(range(8)), seed=seed, mesh=mesh
    )


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def fork(compiled):
    """A function that trains to a step in a process of its own, or does something else."""
    children = []

    def begin(folder, does, **options):
        if isinstance(does, int):
            does = functools.partial(hosts.train, folder, does, **options)
        children.append(faults.Child(compiled, folder, does))
        return children[-1]

    yield begin
    for child in children:
        child.close()
