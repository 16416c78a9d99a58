"""Input pipelines beside torch's on this machine: ``nox -s input``.

The same folder of JPEGs, as many threads here as processes there: decode, inception crop to 224
pixels, flip, normalize, batches of 128. torch reads it as timm's users do, a ``DataLoader`` over
torchvision's ``ImageFolder`` with Pillow. Rounds alternate, each in a process of its own; the
start, which is not what is asked, is taken off by running one epoch and several.

The images are scikit-learn's two photographs in 256 parts of about 500x400 pixels, or those of
``--images``.
"""

import argparse
import io
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

EPOCHS, BATCH = 5, 128


def write_images(folder: pathlib.Path, images: pathlib.Path | None, count: int) -> None:
    """Fills a folder with JPEGs in two classes."""
    from PIL import Image
    from sklearn import datasets

    if images is not None:
        encoded = [path.read_bytes() for path in sorted(images.iterdir()) if path.is_file()]
    else:
        rng = np.random.default_rng(0)
        encoded = []
        for number in range(32):
            photograph = datasets.load_sample_images().images[number % 2]
            left, top = rng.integers(0, 140), rng.integers(0, 27)
            part = Image.fromarray(photograph[top : top + 400, left : left + 500])
            buffer = io.BytesIO()
            part.save(buffer, "jpeg", quality=92)
            encoded.append(buffer.getvalue())
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded[number % len(encoded)])


def read_with_scenax(folder: str, epochs: int, workers: int) -> None:
    """Reads the folder's images that many times."""
    from scenax.common.contracts import DatasetInfo
    from scenax.data import pipeline
    from scenax.data.sources.image_folder import ImageFolder
    from scenax.data.transforms import geometry, image, targets

    source = ImageFolder(folder)
    normalize = image.Normalize(image.IMAGENET_MEAN, image.IMAGENET_STD)
    dataset = pipeline.PipelineDataset(
        pipeline.Reading(BATCH, BATCH, num_threads=workers, normalize=normalize),
        DatasetInfo("images", (224, 224, 3), "float32", 2, ("0", "1"), {"train": len(source)}),
        {"train": source},
        decode=image.DecodeImage(),
        train_transforms=[geometry.RandomResizedCrop(224), geometry.RandomFlip()],
        finish=[targets.Keep()],
    )
    batches = dataset.train_iter
    for _ in range(epochs * len(source) // BATCH):
        next(batches)


def read_with_torch(folder: str, epochs: int, workers: int) -> None:
    """The same with torch."""
    import torch

    # The wheel for CPUs has operators that want CUDA's libraries, and dies without this.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import datasets, transforms

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(folder, transform),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
    )
    for _ in range(epochs):
        for _ in loader:
            pass


READERS = {"scenax": read_with_scenax, "torch": read_with_torch}


def measure(reader: str, folder: str, epochs: int, workers: int) -> tuple[float, float]:
    """Returns seconds, and CPU seconds with those of worker processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, __file__, "--read", reader, folder, str(epochs), str(workers)]
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Times and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=pathlib.Path)
    parser.add_argument("--read", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        reader, folder, epochs, workers = arguments.read
        READERS[reader](folder, int(epochs), int(workers))
        return
    count = 4 * BATCH
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
    with tempfile.TemporaryDirectory() as folder:
        write_images(pathlib.Path(folder), arguments.images, count)
        for _ in range(arguments.rounds):
            for name, found in rates.items():
                one = measure(name, folder, 1, arguments.workers)
                more = measure(name, folder, EPOCHS, arguments.workers)
                images = (EPOCHS - 1) * count
                found.append((images / (more[0] - one[0]), images / (more[1] - one[1])))
    medians = {}
    for name, found in rates.items():
        per_second, per_cpu_second = (
            statistics.median(column) for column in zip(*found, strict=True)
        )
        medians[name] = per_second, per_cpu_second
        sys.stdout.write(
            f"{name}: {per_second:.0f} images/s, {per_cpu_second:.0f} images per CPU second\n"
        )
    pairs = zip(medians["scenax"], medians["torch"], strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    sys.stdout.write(f"scenax / torch: {ratios[0]:.2f}, per CPU second {ratios[1]:.2f}\n")


if __name__ == "__main__":
    main()
