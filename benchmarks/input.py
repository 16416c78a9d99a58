"""How long an image takes from a JPEG on disk to its place in a batch, with two threads.

500x400 pixels are decoded and made 224x224: by an inception crop and a flip in training, by
resizing and a central crop in validation. Wall clock, the best of several rounds, each of which
starts to count when the first batch is there. No device has a part in it.
"""

import io
import itertools
import math
import pathlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

# asv forks its processes from one that has imported this module: jax is imported in functions.
params = ["train", "validation"]
param_names = ["split"]
version = "1"

BATCH = 64
BATCHES = 5
"""In a round; the first is not counted."""
ROUNDS = 5
DISTINCT = 64
"""Images; there are as many files of them as a round reads."""
THREADS = 2

NEEDED = (
    "scenax.data.pipeline",
    "scenax.data.sources",
    "scenax.data.sources.image_folder",
    "scenax.data.transforms",
    "scenax.data.transforms.geometry",
    "scenax.data.transforms.image",
    "scenax.data.transforms.targets",
)
"""What a commit has to have: without, the graph has a gap."""


def setup_cache() -> dict[str, float]:
    """Returns the milliseconds of an image, by split; none if the commit cannot read a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_images(folder, BATCH * BATCHES)
        try:
            dataset = make_dataset(folder)
        except ImportError as error:
            if error.name not in NEEDED:
                raise  # It is there, and broken.
            return {}
        return {
            "train": best(itertools.repeat(dataset.train_iter, ROUNDS)),
            "validation": best(iter(dataset.valid_iter) for _ in range(ROUNDS)),
        }


setup_cache.timeout = 600


def track_image_time(times: dict[str, float], split: str) -> float:
    """Returns the milliseconds of an image."""
    return times.get(split, math.nan)


track_image_time.unit = "ms/image"


def best(rounds: Iterable[Iterator[Any]]) -> float:
    """Returns the milliseconds of an image in the quickest of the rounds, each one's batches."""
    times = []
    for batches in rounds:
        next(batches)
        began = time.perf_counter()
        for _ in range(BATCHES - 1):
            next(batches)
        times.append(1000 * (time.perf_counter() - began) / (BATCH * (BATCHES - 1)))
    return min(times)


def write_images(folder: pathlib.Path, count: int) -> None:
    """Fills a folder with JPEGs in two classes, as smooth and as large as photographs are."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(DISTINCT):
        layers = (rng.integers(0, 256, (rows, rows * 5 // 4, 3), np.uint8) for rows in (4, 16, 160))
        coarse, middle, fine = (
            Image.fromarray(layer).resize((500, 400), Image.Resampling.BICUBIC) for layer in layers
        )
        picture = Image.blend(Image.blend(coarse, middle, 0.4), fine, 0.15)
        buffer = io.BytesIO()
        picture.save(buffer, "jpeg", quality=92)
        encoded.append(buffer.getvalue())
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded[number % DISTINCT])


def make_dataset(folder: pathlib.Path) -> Any:
    """Returns a dataset of the folder's images, which are both of its splits."""
    from scenax.common.contracts import DatasetInfo
    from scenax.data.pipeline import PipelineDataset, Reading
    from scenax.data.sources.image_folder import ImageFolder
    from scenax.data.transforms import geometry, image, targets

    source = ImageFolder(str(folder))
    counts = {split: len(source) for split in params}
    return PipelineDataset(
        Reading(
            BATCH,
            BATCH,
            num_threads=THREADS,
            normalize=image.Normalize(image.IMAGENET_MEAN, image.IMAGENET_STD),
        ),
        DatasetInfo("images", (224, 224, 3), "float32", 2, ("0", "1"), counts),
        dict.fromkeys(params, source),
        decode=image.DecodeImage(),
        train_transforms=[geometry.RandomResizedCrop(224), geometry.RandomFlip()],
        eval_transforms=[geometry.ResizeSmallerSide(256), geometry.CentralCrop(224)],
        finish=[targets.Keep()],
    )
