"""What a model says of pictures: ``python -m apps.classification.predict --weights=X IMAGE...``.

Prepares each picture as the weights want it, and prints the most probable classes. A file that is
no picture is reported, and the rest go on.
"""

import argparse
import dataclasses
import functools
import logging
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float, UInt8
from PIL import Image
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scenax.common import visualize
from scenax.data.reports import UnreadableError
from scenax.data.transforms import preprocessing
from scenax.data.transforms.image import decode_image
from scenax.models import create_model, load_pretrained, pretrained_cfg, pretrained_model
from scenax.models.architectures import vit

from . import attention

IMAGENET_CLASSES = pathlib.Path(__file__).parent / "imagenet_classes.txt"
"""Names of the 1,000 classes of ILSVRC 2012 in their usual order: WordNet's first word for each."""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model with its weights, how pictures have to look for it, and what its classes are."""

    model: nn.Module
    variables: Mapping[str, Any]
    cfg: Mapping[str, Any]
    label_names: Sequence[str]

    def prepare(self, path: pathlib.Path) -> tuple[UInt8[np.ndarray, "h w c"], np.ndarray]:
        """Returns the part of a picture that the model sees, and what that is to the model.

        Raises:
          UnreadableError: if the file is no picture.
          OSError: if it cannot be read.
        """
        given: Any = self.model
        size = getattr(given, "img_size", None) or self.cfg["input_size"][1:]
        pixels = decode_image(path.read_bytes(), channels=given.in_chans, name=str(path))
        example, rng = {"inputs": pixels}, np.random.default_rng(0)
        for transform in preprocessing.evaluation(self.cfg, size[1]):
            example = transform(example, rng)
        seen = example["inputs"]
        return seen, preprocessing.normalization(self.cfg)(example, rng)["inputs"]

    @functools.cached_property
    def probabilities(self) -> Any:
        """The compiled function from ``[1 h w c]`` to ``[1 k]``."""

        @jax.jit
        def probabilities(inputs: jax.Array) -> jax.Array:
            logits = self.model.apply(self.variables, inputs, train=False)
            return jax.nn.softmax(jnp.asarray(logits, jnp.float32))

        return probabilities


def load(name: str | None, weights: str | None, labels: pathlib.Path | None) -> Classifier:
    """Returns the model that the flags name.

    Raises:
      FileNotFoundError, ValueError: if something is missing or does not fit; the message says what.
    """
    if name is None and weights is None:
        raise ValueError("Say --model, --weights or both.")
    model: Any = create_model(name) if name else pretrained_model(str(weights))
    cfg = pretrained_cfg(model, weights)
    if not cfg.get("num_classes"):
        raise ValueError(f"{weights} has no head, and without one there are no classes.")
    if model.num_classes != cfg["num_classes"]:
        model = model.clone(num_classes=cfg["num_classes"])
    height, width = getattr(model, "img_size", None) or cfg["input_size"][1:]
    if height != width:
        raise ValueError(f"The model is for images of {width}x{height}, and not for square ones.")
    names = label_names(cfg, labels)
    shape = (height, width, model.in_chans)
    return Classifier(model, load_pretrained(model, weights, input_shape=shape), cfg, names)


def label_names(cfg: Mapping[str, Any], file: pathlib.Path | None) -> list[str]:
    """Returns the names of the classes: a file's lines, or of the weights, or ImageNet's.

    Raises:
      ValueError: if there are not as many as classes.
      OSError: if the file cannot be read.
    """
    count = cfg["num_classes"]
    if file is not None:
        names = file.read_text("utf-8").splitlines()
    elif cfg.get("label_names"):
        names = list(cfg["label_names"])
    elif count == 1000:
        names = IMAGENET_CLASSES.read_text("utf-8").splitlines()
    else:
        names = [f"class {i}" for i in range(count)]
    if len(names) != count:
        raise ValueError(f"{file or 'The config'} names {len(names)} classes; there are {count}.")
    return names


def show(
    console: Console,
    path: pathlib.Path,
    probabilities: Float[np.ndarray, " k"],
    names: Sequence[str],
    top: int,
) -> None:
    """Prints the most probable classes, with bars."""
    table = Table(box=None, show_header=False)
    for index in map(int, np.argsort(-probabilities, kind="stable")[:top]):
        share = float(probabilities[index])
        bar = ProgressBar(total=1.0, completed=share, width=30)
        table.add_row(Text(names[index]), bar, f"{share:.1%}")
    console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    console.print(table)


def draw_attention(
    classifier: Classifier, seen: UInt8[np.ndarray, "h w c"], inputs: np.ndarray, path: pathlib.Path
) -> None:
    """Writes a picture: what the model sees, and over it what the last block attends to."""
    assert isinstance(classifier.model, vit.VisionTransformer)
    heads = attention.last_block(classifier.model, classifier.variables, inputs[None])[0]
    factor = -(-224 // seen.shape[0])  # Small images are enlarged, to be seen.
    large = np.repeat(np.repeat(seen, factor, axis=0), factor, axis=1)
    overlay = visualize.attention_overlay(large, heads.mean(axis=0, keepdims=True))[0]
    rgb = np.broadcast_to(large, (*large.shape[:2], 3))
    Image.fromarray(np.concatenate([rgb, overlay], axis=1)).save(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Predicts and prints. Returns the exit status: 1 if a picture could not be read."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.predict", description="Prints what a model says of pictures."
    )
    parser.add_argument("images", nargs="+", type=pathlib.Path, metavar="IMAGE")
    parser.add_argument("--model", help="a name of the zoo; not needed where --weights says it")
    parser.add_argument(
        "--weights", help="a tag, file or folder, as for load_pretrained (the model's own)"
    )
    parser.add_argument("--labels", type=pathlib.Path, help="a file with a line for every class")
    parser.add_argument("--top", type=int, default=5, help="how many classes are printed (5)")
    parser.add_argument(
        "--attention", type=pathlib.Path, help="a folder for pictures of what a ViT attends to"
    )
    flags = parser.parse_args(arguments)
    console, errors = Console(), Console(stderr=True)

    def failed(message: object) -> int:
        errors.print(f"Error: {message}", markup=False, highlight=False, soft_wrap=True)
        return 1

    try:
        classifier = load(flags.model, flags.weights, flags.labels)
        if flags.attention is not None:
            if not isinstance(classifier.model, vit.VisionTransformer):
                raise ValueError(
                    f"--attention is for a ViT with a class token, such as vit_base_patch16_224; "
                    f"this is a {type(classifier.model).__name__}."
                )
            flags.attention.mkdir(parents=True, exist_ok=True)
    except (ValueError, TypeError, OSError) as error:
        return failed(error)

    status = 0
    for number, path in enumerate(flags.images):
        try:
            seen, inputs = classifier.prepare(path)
        except (UnreadableError, OSError) as error:
            status = failed(error)
            continue
        probabilities = np.asarray(classifier.probabilities(inputs[None]))[0]
        show(console, path, probabilities, classifier.label_names, flags.top)
        if flags.attention is not None:
            name = re.sub(r"[^\w.-]", "_", path.stem)
            target = flags.attention / f"{number:03d}_{name}.png"
            draw_attention(classifier, seen, inputs, target)
            console.print(f"Attention: {target}", highlight=False, soft_wrap=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
