"""Measures architectures at request, with the packages that its Python has, in its own process.

A request is a line of JSON on standard input, ``["cost", "resnet18"]``: a function of ``REQUESTS``
and its arguments. The answer is a line on standard output, ``{"result": ...}`` or ``{"error":
...}``; what libraries print goes to standard error. Two workers on two commits, asked in turns, are
how speeds are compared.

Started as ``python -m benchmarks.worker`` at the root, with the device to use in
``SCENAX_BENCH_DEVICE``.
"""

import functools
import gc
import hashlib
import importlib.metadata
import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import scenax.common
import scenax.data
import scenax.models
import scenax.train
from benchmarks import device, measuring
from scenax.common import flops, tree
from scenax.common.contracts import DatasetInfo
from scenax.models import ClassificationModel, create_model, list_models
from scenax.train import sharding, state, step

SIZE = 32
BATCH = 32
STEPS = 120
RATE = 1e-3
DECAY = 0.05
WARMUP = 12
CLASSES = 1000


def cost(name: str) -> dict[str, float]:
    """Returns what an architecture costs for one image of its published size: counts of shapes."""
    model: Any = create_model(name)
    channels, *size = model.default_cfg["input_size"]
    parameters = 0

    def forward(key: Any, images: Any) -> Any:
        nonlocal parameters
        outputs, variables = model.init_with_output(key, images, train=False)
        parameters = tree.parameter_count(variables["params"])
        return outputs  # What only makes variables is no part of this, and not counted.

    key = jax.eval_shape(jax.random.key, 0)
    images = jax.ShapeDtypeStruct((1, *size, channels), "float32")
    if not hasattr(flops, "count_cost"):  # A commit that does not count activations yet.
        counted = flops.count_flops(forward, key, images)
        return {"flops": counted / 1e9, "parameters": float(parameters)}
    counted = flops.count_cost(forward, key, images)
    return {
        "flops": counted.flops / 1e9,
        "parameters": float(parameters),
        "activations": counted.activations / 1e6,
    }


def cost_key(name: str) -> str:
    """Returns a hash of the sources that decide what an architecture costs."""
    models, common = _folder(scenax.models), _folder(scenax.common)
    paths = [
        *_family(name),
        models / "weights.csv",
        common / "flops.py",
        common / "tree.py",
    ]
    return _hash(name, jax.__version__, *[path.read_bytes() for path in paths])


def source_key(name: str) -> str:
    """Returns a hash of all sources that could change a program of an architecture, or its data."""
    rest = [
        _folder(package).rglob("*.py") for package in (scenax.common, scenax.data, scenax.train)
    ]
    models = _folder(scenax.models)
    parts = [models.glob(f"{part}*.py") for part in ("", "base_models/", "losses/", "metrics/")]
    paths = [*_family(name), *sorted(itertools.chain(*rest, *parts)), pathlib.Path(__file__)]
    return _hash(name, *[path.read_bytes() for path in paths], *sorted(_installed()), *_versions())


def _family(name: str) -> list[pathlib.Path]:
    """The sources of an architecture: its family's file, and what families share."""
    from scenax.models import _catalog

    models = _folder(scenax.models)
    family = _catalog.families()[name].rpartition(".")[2]
    return [
        models / "architectures" / f"{family}.py",
        *sorted((models / "architectures").glob("_*.py")),
        *sorted((models / "layers").glob("*.py")),
    ]


def _folder(package: Any) -> pathlib.Path:
    return pathlib.Path(next(iter(package.__path__)))


def _installed() -> list[str]:
    return [f"{each.name} {each.version}" for each in importlib.metadata.distributions()]


@functools.lru_cache(maxsize=1)
def _learner(name: str, options: str, seed: int) -> dict[str, Any]:
    """The programs that train and test a small copy, and what they are made of."""
    batches, test, info = _digits(seed)
    model = ClassificationModel({"architecture": name, "args": json.loads(options)}, info)
    schedule = optax.warmup_cosine_decay_schedule(0, RATE, WARMUP, STEPS)
    optimizer = optax.adamw(schedule, weight_decay=DECAY)
    mesh = sharding.make_mesh()
    abstract = state.abstract_state(model, optimizer, batches[0], mesh=mesh)
    train_step = step.make_train_step(model, optimizer, mesh)
    eval_step: Any = step.make_eval_step(model, mesh, "test")
    return {
        "create": lambda: state.create_state(model, optimizer, batches[0], seed=seed, mesh=mesh),
        "init": jax.jit(lambda key: model.init(key, batches[0])).lower(jax.random.key(0)),
        "train": train_step.lower(abstract, sharding.put_batch(batches[0], mesh)),
        "test": eval_step.lower(abstract, sharding.put_batch(test[0], mesh)),
        "mesh": mesh,
    }


def learning_key(name: str, options: str, seed: int) -> str:
    """Returns a hash of all that decides what ``learning`` returns: programs and data."""
    learner = _learner(name, options, seed)
    programs = [learner[part].as_text() for part in ("init", "train", "test")]
    return _hash(*programs, _digits_key(seed), str(seed), *_versions())


def learning(name: str, options: str, seed: int) -> float:
    """Returns the top-1 error in percent on the test digits, after a short training from scratch.

    120 updates of 32 digits, enlarged to 32x32 pixels, by AdamW at 1e-3 with warm-up and a cosine:
    the same for every architecture, so the error says what changed and not what is best.
    """
    learner = _learner(name, options, seed)
    batches, test, _ = _digits(seed)
    train, evaluate = (learner[part].compile() for part in ("train", "test"))
    current = learner["create"]()
    for batch in batches:
        current, _ = train(current, sharding.put_batch(batch, learner["mesh"]))
    right = total = 0.0
    for batch in test:
        sums = evaluate(current, sharding.put_batch(batch, learner["mesh"]))
        right += float(sums["accuracy"][0])
        total += float(sums["accuracy"][1])
    return 100 * (1 - right / total)


@functools.cache
def _digits(seed: int) -> tuple[list[Any], list[Any], DatasetInfo]:
    dataset: Any = scenax.data.get_dataset(
        "digits", batch_size=BATCH, eval_batch_size=128, seed=seed, image_size=SIZE
    )
    train = list(itertools.islice(dataset.train_iter, STEPS))
    return train, list(dataset.test_iter), dataset.meta_data


def prepare() -> None:
    """Prepares the digits: in older commits two processes cannot do so at once."""
    _digits(0)


@functools.cache
def _digits_key(seed: int) -> str:
    train, test, _ = _digits(seed)
    leaves = jax.tree.leaves((train, test))
    return _hash(*[np.ascontiguousarray(leaf).tobytes() for leaf in leaves])


@functools.cache
def _programs(name: str, batch: int, dtype: str) -> dict[str, Any]:
    """What inference and the training step of a batch of the published size are lowered from."""
    architecture: Any = create_model(name)
    channels, *size = architecture.default_cfg["input_size"]
    info = DatasetInfo(
        name="benchmark",
        input_shape=(*size, channels),
        input_dtype="float32",
        num_classes=CLASSES,
        label_names=tuple(map(str, range(CLASSES))),
        num_examples={"train": batch},
    )
    model = ClassificationModel({"architecture": name, "args": {"dtype": dtype}}, info)
    example = {
        "inputs": np.zeros((batch, *size, channels), np.float32),
        "label": np.zeros(batch, np.int32),
        "batch_mask": np.ones(batch, np.float32),
    }
    mesh = sharding.make_mesh(jax.devices()[:1])
    optimizer = optax.adamw(RATE, weight_decay=DECAY)
    abstract = state.abstract_state(model, optimizer, example, mesh=mesh)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), example)
    infer = jax.jit(
        lambda variables, inputs: model.flax_model.apply(variables, inputs, train=False)
    )
    return {
        "abstract": abstract,
        "example": example,
        "mesh": mesh,
        "inference": functools.partial(infer.lower, abstract.variables, shapes["inputs"]),
        "training": functools.partial(
            step.make_train_step(model, optimizer, mesh).lower, abstract, shapes
        ),
    }


@functools.cache
def _lowered(name: str, batch: int, dtype: str, part: str) -> Any:
    return _programs(name, batch, dtype)[part]()


def speed_key(name: str, batch: int, dtype: str, part: str) -> str:
    """Returns a hash of the program that is timed."""
    return _hash(_lowered(name, batch, dtype, part).as_text(), *_versions())


_compiled: dict[tuple[str, str], Any] = {}


def compiling(name: str, batch: int, dtype: str, part: str) -> dict[str, float]:
    """Compiles ``"inference"`` or ``"training"``; returns seconds of CPU, and MiB when it runs."""
    lowered = _lowered(name, batch, dtype, part)
    start = time.process_time()
    _compiled[name, part] = compiled = lowered.compile()
    seconds = time.process_time() - start
    memory = compiled.memory_analysis()
    total = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return {"seconds": seconds, "memory": total / 2**20}


def timing(name: str, batch: int, dtype: str, part: str, budget: float) -> list[float]:
    """Returns the seconds of each run of what was compiled: two, and more within a budget."""
    timed = _timed(name, batch, dtype, part)
    next(timed)  # The first run touches memory for the first time.
    runs = [next(timed) for _ in range(2)]
    while sum(runs) < budget and len(runs) < 30:
        runs.append(next(timed))
    return runs


_turns: dict[tuple[str, str], Iterator[float]] = {}


def turn(name: str, batch: int, dtype: str, part: str) -> float:
    """Returns the seconds of one more run: for two workers that take turns."""
    if (name, part) not in _turns:
        _turns[name, part] = _timed(name, batch, dtype, part)
        next(_turns[name, part])
    return next(_turns[name, part])


def forget(name: str) -> None:
    """Gives the memory of an architecture's programs and arrays back."""
    for part in ("inference", "training"):
        _turns.pop((name, part), None)
        _compiled.pop((name, part), None)


def _timed(name: str, batch: int, dtype: str, part: str) -> Iterator[float]:
    programs = _programs(name, batch, dtype)
    run = _compiled[name, part]
    current = jax.tree.map(_some, programs["abstract"])
    example = sharding.put_batch(programs["example"], programs["mesh"])
    variables, inputs = current.variables, example["inputs"]
    while True:
        start = time.perf_counter()
        if part == "inference":
            jax.block_until_ready(run(variables, inputs))
        else:
            current, sums = run(current, example)
            jax.block_until_ready((current, sums))
        yield time.perf_counter() - start


def _some(abstract: Any) -> Any:
    """An array of the shape. Initializing would be another program to compile."""
    if jnp.issubdtype(abstract.dtype, jax.dtypes.prng_key):
        return jax.device_put(jax.random.key(0), abstract.sharding)
    if not np.issubdtype(abstract.dtype, np.floating):
        return jax.device_put(np.zeros(abstract.shape, abstract.dtype), abstract.sharding)
    numbers = np.random.default_rng(0).uniform(0.001, 0.02, abstract.shape)
    return jax.device_put(numbers.astype(abstract.dtype), abstract.sharding)


def names() -> list[str]:
    """Returns the architectures that there are."""
    return list_models()


def _versions() -> list[str]:
    return [jax.__version__, jax.devices()[0].device_kind, measuring.processor()]


def _hash(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:32]


REQUESTS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        cost,
        cost_key,
        source_key,
        learning_key,
        learning,
        speed_key,
        compiling,
        timing,
        turn,
        forget,
        names,
        prepare,
    )
}


def main() -> None:
    """Answers requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    device.require()
    # Tracing makes many objects that stay: to look through all of them at every turn takes as long.
    gc.freeze()
    gc.set_threshold(500_000)
    for line in sys.stdin:
        request, *arguments = json.loads(line)
        try:
            answer = {"result": REQUESTS[request](*arguments)}
        except Exception as error:  # Whatever it is, it is the architecture's figure that is lost.
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
