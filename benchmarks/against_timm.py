"""Speed beside timm on the same CPU: ``nox -s speed``, or ``-- NAME...`` for other architectures.

Images per second of inference and of a training step (softmax cross-entropy, gradients, plain SGD)
with batches of 8 images of the published size, in float32: ours jitted, timm's in torch with the
faster of its two memory formats, both with all cores. Rounds alternate between the two, and a
figure is the median of its rounds. The ratio is ours to timm's: above 1 we are faster.
"""

import argparse
import functools
import pathlib
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import scenax.models

NAMES = (
    "vit_small_patch16_224",
    "mixer_s16_224",
    "swin_tiny_patch4_window7_224",
    "poolformer_s12",
    "resnet50",
    "efficientnet_b0",
)
BATCH = 8
MAKE = runpy.run_path(
    str(pathlib.Path(__file__).parents[1] / "packages/models/tests/goldens/make.py")
)


def ours(name: str, images: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Returns our inference and training step, each compiled and ready to be timed."""
    model = scenax.models.create_model(name)
    inputs = jnp.asarray(images.transpose(0, 2, 3, 1))
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), inputs)
    infer = jax.jit(functools.partial(model.apply, train=False))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(variables: Any, images: Any, labels: Any) -> Any:
        def loss_of(params: Any) -> Any:
            logits, stats = model.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
            return -picked.mean(), stats

        gradients, stats = jax.grad(loss_of, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 1e-3 * g, variables["params"], gradients)
        return {**variables, **stats, "params": params}

    targets = jnp.asarray(labels)
    state = [jax.tree.map(jnp.copy, variables)]

    def train() -> None:
        state[0] = jax.block_until_ready(step(state[0], inputs, targets))

    return {
        "inference": lambda: jax.block_until_ready(infer(variables, inputs)),
        "training": train,
    }


def theirs(
    name: str, images: np.ndarray, labels: np.ndarray, memory_format: str
) -> dict[str, Callable[[], Any]]:
    """Returns timm's inference and training step in a memory format of torch's."""
    import timm
    import torch

    layout = getattr(torch, memory_format)
    inputs = torch.from_numpy(images).to(memory_format=layout)
    targets = torch.from_numpy(labels).long()

    def made() -> Any:
        # Where our defaults differ from timm's, as in stochastic depth, the work is the same.
        return timm.create_model(name).to(memory_format=layout)

    evaluated, trained = made().eval(), made().train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=1e-3)

    def infer() -> None:
        with torch.inference_mode():
            evaluated(inputs)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(trained(inputs), targets).backward()
        optimizer.step()

    return {"inference": infer, "training": train}


def compare(name: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Returns images per second, ours and timm's, of inference and training."""
    _, height, width = scenax.models.create_model(name).default_cfg["input_size"]
    random = np.random.default_rng(0)
    images = random.standard_normal((BATCH, 3, height, width), np.float32)
    labels = random.integers(0, 1000, BATCH)
    runs = {"ours": ours(name, images, labels)}
    for memory_format in ("contiguous_format", "channels_last"):
        runs[memory_format] = theirs(name, images, labels, memory_format)
    found = {}
    for what in ("inference", "training"):
        seconds: dict[str, list[float]] = {which: [] for which in runs}
        for _ in range(rounds + 1):
            for which, run in runs.items():
                began = time.perf_counter()
                run[what]()
                seconds[which].append(time.perf_counter() - began)
        # The first round compiles and allocates.
        speed = {which: BATCH / statistics.median(s[1:]) for which, s in seconds.items()}
        mine = speed.pop("ours")
        found[what] = (mine, max(speed.values()))
    return found


def main() -> None:
    """Compares and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    MAKE["declare_operators"]()

    head = f"{'':30}{'inference, images/s':>26}{'training, images/s':>29}\n"
    columns = f"{'ours':>10}{'timm':>8}{'ratio':>8}"
    sys.stdout.write(f"{head}{'name':30}{columns}   {columns}\n")
    for name in flags.names:
        sys.stdout.write(f"{name:30}")
        for mine, other in compare(name, flags.rounds).values():
            sys.stdout.write(f"{mine:10.1f}{other:8.1f}{mine / other:8.2f}   ")
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
