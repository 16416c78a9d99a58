"""How long the input pipeline takes for an image: JPEGs from a folder to normalized batches.

The images are 500x400 pixels, two threads read them into batches of 64, and a figure is the wall
clock of the fastest of some rounds. Training crops as Inception did and flips; validation resizes
the smaller side to 256 and crops the centre; both end at 224 pixels and normalize. Decoding and
cropping are the host's on every device.
"""

import io
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import device

params = ["train", "validation"]
param_names = ["split"]
version = "1"  # A new one would drop a figure's history.

ROUNDS = 4
BATCH = 64
BATCHES = 4
"""In a round; one is as many images as threads may be ahead."""
THREADS = 2
DIFFERENT = 64
"""Images; files repeat them."""


def setup_cache() -> dict[str, float]:
    """Returns milliseconds per image by split, or nothing if the commit has no such pipeline."""
    device.require()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_images(folder)
        dataset = make_dataset(folder)
        if dataset is None:
            return {}
        # Validation first: what training reads ahead would go on beside it.
        validation = _fastest(lambda: dataset.valid_iter)
        stream = dataset.train_iter
        next(stream)  # Threads start, and come as far ahead as they may.
        train = _fastest(lambda: itertools.islice(stream, BATCHES))
        return {"train": train, "validation": validation}


setup_cache.timeout = 600


def track_image_time(figures: dict[str, float], split: str) -> float:
    """Returns milliseconds per image."""
    return figures.get(split, float("nan"))


track_image_time.unit = "ms/image"


def write_images(folder: pathlib.Path) -> None:
    """Fills a folder with JPEGs in two classes: smooth random colours."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(DIFFERENT):
        coarse = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((500, 400), Image.Resampling.BICUBIC).save(buffer, "jpeg", quality=92)
        encoded.append(buffer.getvalue())
    for number in range(BATCH * BATCHES):
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded[number % len(encoded)])


def make_dataset(folder: pathlib.Path) -> Any:
    """Returns the folder as a dataset, or none if the commit lacks what it is made of."""
    try:
        from scenax.common.contracts import DatasetInfo
        from scenax.data.pipeline import PipelineDataset, Reading
        from scenax.data.sources.image_folder import ImageFolder
        from scenax.data.transforms.geometry import (
            CentralCrop,
            RandomFlip,
            RandomResizedCrop,
            ResizeSmallerSide,
        )
        from scenax.data.transforms.image import (
            IMAGENET_MEAN,
            IMAGENET_STD,
            DecodeImage,
            Normalize,
        )
        from scenax.data.transforms.targets import Keep
    except ImportError as error:
        if not (error.name or "").startswith("scenax"):
            raise
        return None
    source = ImageFolder(folder)
    sizes = {"train": len(source), "validation": len(source)}
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    return PipelineDataset(
        Reading(BATCH, BATCH, num_threads=THREADS, normalize=normalize),
        DatasetInfo("images", (224, 224, 3), "float32", 2, ("0", "1"), sizes),
        {"train": source, "validation": source},
        decode=DecodeImage(),
        train_transforms=[RandomResizedCrop(224), RandomFlip()],
        eval_transforms=[ResizeSmallerSide(256), CentralCrop(224)],
        finish=[Keep()],
    )


def _fastest(batches: Callable[[], Iterator[Any]]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        images = sum(len(batch["inputs"]) for batch in batches())
        times.append(1000 * (time.perf_counter() - began) / images)
    return min(times)
