"""What the pipeline promises, for every source and whatever a user may choose.

Each source has the numbers from 1 on as examples, written into pixels or samples, so that what a
batch holds is known from its contents. Some of its files are damaged, or none.
"""

import collections
import io
import itertools
import json
import os
import threading
import wave
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from scenax.common.contracts import DatasetInfo
from scenax.data import pipeline
from scenax.data.examples import ArraySource
from scenax.data.reports import UnreadableError
from scenax.data.sources.audio_folder import AudioFolder
from scenax.data.sources.coco_json import CocoJson
from scenax.data.sources.image_folder import ImageFolder
from scenax.data.sources.mask_folder import MaskFolder
from scenax.data.sources.tfds import open_lazily
from scenax.data.sources.video_folder import VideoFolder
from scenax.data.transforms.audio import CentralWindow, DecodeAudio, RandomWindow
from scenax.data.transforms.image import DecodeImage
from scenax.data.transforms.targets import DetectionTargets, SegmentationTargets
from scenax.data.transforms.video import CentralClip, SampleClip

COUNT = 7
DAMAGED = (1, 4, 7)  # The first, the last, and one between.
NUMBERS = range(1, COUNT + 1)


class Case(NamedTuple):
    """A source, and how it becomes batches."""

    source: Any
    decode: Callable | None
    train: list
    evaluation: list
    order: list[int]
    """The numbers of its examples."""
    damaged: tuple[int, ...]


# Writing.


def picture(number):
    pixels = np.full((4, 6, 3), number, np.uint8)
    pixels[1:, :, 1] = 200
    return pixels


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(number):
    return encoded(Image.fromarray(picture(number)))


def gif(number):
    frames = [Image.fromarray(np.full((6, 8), number + 20 * t, np.uint8)) for t in range(4)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40)


def wav(number):
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(8000)
        recording.writeframes(np.full(200, 1000 * number, np.int16).tobytes())
    return file.getvalue()


def damage(content, number):
    """Nothing, half of it, or something else."""
    return {1: content[: len(content) // 2], 4: b"", 7: b"<html>404</html>"}[number]


def write(folder, content, ending, damaged):
    """Files in the order of their numbers, in folders of two classes."""
    for number in NUMBERS:
        path = folder / ("a" if number < 5 else "b") / f"{number:02}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = content(number)
        path.write_bytes(damage(whole, number) if number in damaged else whole)
    return folder


class ScenaxConformance(tfds.core.GeneratorBasedBuilder):
    """Encoded pictures, some of them damaged."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012  (as TFDS has it)
        tfds.core.BuilderConfig(name="whole", version="1.0.0"),
        tfds.core.BuilderConfig(name="damaged", version="1.0.0"),
    ]

    def _info(self):
        features = {"image": tfds.features.Text(), "id": np.int64}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        damaged = DAMAGED if self.builder_config.name == "damaged" else ()
        for number in NUMBERS:
            content = png(number)
            content = damage(content, number) if number in damaged else content
            yield number, {"image": content, "id": number}


class Damaged:
    """An array source of which some rows cannot be read."""

    def __init__(self, source, damaged):
        self.source = source
        self.damaged = damaged

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index, /):
        if index + 1 in self.damaged:
            raise UnreadableError(f"row {index}")
        return self.source[index]


# Opening.


def as_it_is(example, rng):
    return example


def image_case(source, damaged, *targets, order=NUMBERS, decode=None):
    return Case(source, decode or DecodeImage(), [*targets], [*targets], list(order), damaged)


def array_case(root, damaged):
    source = ArraySource({"inputs": np.stack([picture(number) for number in NUMBERS])})
    return image_case(Damaged(source, damaged) if damaged else source, damaged, decode=as_it_is)


def tfds_case(file_format, root, damaged):
    name = f"scenax_conformance/{'damaged' if damaged else 'whole'}"
    builder = tfds.builder(name, data_dir=root, file_format=file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    if file_format == "tfrecord":
        in_order = tfds.ReadConfig(interleave_cycle_length=1)
        rows = tfds.as_numpy(builder.as_dataset(split="train", read_config=in_order))
    else:
        rows = builder.as_data_source(split="train")
        rows = [rows[index] for index in range(len(rows))]
    order = [int(row["id"]) for row in rows]
    assert sorted(order) == list(NUMBERS)
    return image_case(open_lazily(builder, "train"), damaged, order=order)


def image_folder_case(root, damaged):
    return image_case(ImageFolder(write(root, png, "png", damaged)), damaged)


def coco_case(root, damaged):
    write(root / "images", png, "png", damaged)
    names = [f"{'a' if number < 5 else 'b'}/{number:02}.png" for number in NUMBERS]
    images = [
        {"id": i, "file_name": name, "height": 4, "width": 6}
        for i, name in zip(NUMBERS, names, strict=True)
    ]
    # As many objects as the number's remainder, so that some images have none.
    objects = [(i, part) for i in NUMBERS for part in range(i % 4)]
    annotations = [
        {"id": n, "image_id": i, "category_id": 1, "bbox": [part, 0, 1 + i / 4, 3]}
        for n, (i, part) in enumerate(objects)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (root / "coco.json").write_text(json.dumps(content))
    source = CocoJson(root / "images", root / "coco.json")
    return image_case(source, damaged, DetectionTargets(3))


def mask_case(root, damaged):
    write(root / "images", png, "png", damaged)
    write(
        root / "masks",
        lambda number: encoded(Image.fromarray(np.full((4, 6), number % 5, np.uint8))),
        "png",
        (),
    )
    source = MaskFolder(root / "images", root / "masks")
    return image_case(source, damaged, SegmentationTargets())


def video_case(root, damaged):
    source = VideoFolder(write(root, gif, "gif", damaged))
    # Which frames are decoded is random in training, so that there is nothing to decode before.
    return Case(source, None, [SampleClip(2)], [CentralClip(2)], list(NUMBERS), damaged)


def audio_case(root, damaged):
    source = AudioFolder(write(root, wav, "wav", damaged))
    windows = [RandomWindow(64)], [CentralWindow(64)]
    return Case(source, DecodeAudio(8000), *windows, list(NUMBERS), damaged)


OPENED = {
    "arrays": array_case,
    "tfds_tfrecord": lambda root, damaged: tfds_case("tfrecord", root, damaged),
    "tfds_array_record": lambda root, damaged: tfds_case("array_record", root, damaged),
    "image_folder": image_folder_case,
    "coco": coco_case,
    "mask_folder": mask_case,
    "video_folder": video_case,
    "audio_folder": audio_case,
}


@pytest.fixture(scope="module", params=OPENED)
def cases(request, tmp_path_factory):
    """The source without damaged examples, and with some; and where disk caches may be."""
    root = tmp_path_factory.mktemp(request.param)
    found = [OPENED[request.param](root / str(len(damaged)), damaged) for damaged in ((), DAMAGED)]
    folders = (root / f"cache_{number}" for number in itertools.count())
    return {bool(case.damaged): case for case in found}, folders


# Reading.


def drawing(example, rng):
    """A random transform, of which the draw can be seen."""
    return example | {"draw": rng.uniform(size=2)}


def finished(example, rng):
    """What a batch holds: the contents, and the number that is read from them."""
    if "waveform" in example:
        inputs = example["waveform"]
        number = round(float(inputs[0]) * 32768 / 1000)
    else:
        inputs = example["inputs"]
        number = int(inputs.reshape(-1, 3)[0, 0])
        # A clip begins at any frame, each 20 brighter than the one before.
        number = number % 20 if inputs.ndim == 4 else number
    kept = {name: example[name] for name in ("label", "label_weights") if "segmentation" in example}
    kept |= {"label": example["label"]} if "boxes" in example else {}
    draw = example.get("draw", np.zeros(2))
    return kept | {"inputs": inputs, "number": np.int32(number), "draw": draw}


class Counted:
    """A source that counts its reads."""

    def __init__(self, source):
        self.source = source
        self.reads = []

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index, /):
        self.reads.append(index)
        return self.source[index]


def dataset(case, *, folders=None, **reading):
    how = {"batch_size": 1, "eval_batch_size": 1, "num_threads": 1, "unreadable": "skip"} | reading
    source = Counted(case.source)
    info = DatasetInfo("numbers", (), "float32", 1, (), {"train": COUNT, "test": COUNT})
    with mock.patch.dict(os.environ, {"SCENAX_CACHE_DIR": str(next(folders))} if folders else {}):
        made = pipeline.PipelineDataset(
            pipeline.Reading(**how),
            info,
            {"train": source, "test": source},
            decode=case.decode,
            train_transforms=[*case.train, drawing],
            eval_transforms=case.evaluation,
            finish=[finished],
        )
    return made, source


def take(made, count, position=None):
    """The first batches of the training stream, or those from a position on; and all positions.

    No thread reads on when it returns: the type checks of tests draw from ``random``, which
    hypothesis does not allow while it makes the next case.
    """
    stream = made.train_iter
    if position is not None:
        stream.set_state(position)
    batches, positions = [], [stream.get_state()]
    for batch in itertools.islice(stream, count):
        batches.append(batch)
        positions.append(stream.get_state())
    stream._batches.close()
    for thread in threading.enumerate():
        if thread.name.startswith("grain-prefetch"):
            thread.join()
    return batches, positions


def leaves(tree, name=""):
    if not isinstance(tree, dict):
        return {name: np.asarray(tree)}
    return {k: v for key in tree for k, v in leaves(tree[key], f"{name}/{key}").items()}


def joined(batches):
    """The examples of batches one after the other, by the names of their parts."""
    parts = [leaves(dict(batch)) for batch in batches]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name, strict=True)


def real(examples):
    """The numbers of examples that are not masked."""
    return examples["/number"][examples["/batch_mask"] > 0].tolist()


damaged_or_not = st.booleans()
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 4)
threads = st.integers(1, 8)
repeats = st.integers(1, 2)
host_counts = st.integers(1, 4)
caches = st.sampled_from([None, "memory", "disk", "decoded_memory", "decoded_disk"])


def cases_of(examples):
    return settings(
        deadline=None,
        max_examples=examples,
        # A case takes a moment and is small already: to look for a smaller one takes minutes.
        phases=[Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


def cache_for(case, kind):
    """Clips are decoded at random places: they can only be kept as they are stored."""
    return kind.removeprefix("decoded_") if kind and case.decode is None else kind


@cases_of(6)
@given(
    damaged=damaged_or_not, seed=seeds, size=sizes, count=threads, cache=caches, repeated=repeats
)
def test_batches_are_the_same_for_any_number_of_threads_and_any_cache(
    cases, damaged, seed, size, count, cache, repeated
):
    case, folders = cases[0][damaged], cases[1]
    reading = {"batch_size": size, "eval_batch_size": size, "seed": seed, "repeats": repeated}
    plain, _ = dataset(case, **reading)
    other, _ = dataset(
        case, folders=folders, **reading, num_threads=count, cache=cache_for(case, cache)
    )
    batches = COUNT * repeated // size + 2
    assert_same(joined(take(other, batches)[0]), joined(take(plain, batches)[0]))
    assert_same(joined(other.test_iter), joined(plain.test_iter))
    assert_same(joined(other.test_iter), joined(plain.test_iter))  # From the cache.
    places = {f"{kind}: {place}" for kind, all_ in other.report.places.items() for place in all_}
    assert len(places) == len(case.damaged)


@cases_of(4)
@given(
    damaged=damaged_or_not, seed=seeds, local=sizes, n=host_counts, count=threads, repeated=repeats
)
def test_hosts_together_read_what_one_host_reads(cases, damaged, seed, local, n, count, repeated):
    case = cases[0][damaged]
    reading = {"batch_size": n * local, "eval_batch_size": n * local, "seed": seed}
    reading |= {"repeats": repeated}
    batches = COUNT // (n * local) + 2
    alone, _ = dataset(case, **reading)
    parts, tests = [], []
    for host in range(n):
        mine, _ = dataset(case, **reading, process_index=host, process_count=n, num_threads=count)
        train, test = take(mine, batches)[0], list(mine.test_iter)
        assert all(len(batch["number"]) == local for batch in train + test)
        assert len(test) == len(mine.test_iter) == -(-COUNT // (n * local))
        parts.append(joined(train))
        tests.append(joined(test))
    for all_parts, expected in (
        (parts, joined(take(alone, batches)[0])),
        (tests, joined(alone.test_iter)),
    ):
        # Host h has every n-th example from the h-th on.
        woven = {
            name: np.stack([part[name] for part in all_parts], axis=1).reshape(-1, *value.shape[1:])
            for name, value in expected.items()
        }
        assert_same(woven, expected)
    seen = [number for part in tests for number in real(part)]
    assert sorted(seen) == [number for number in NUMBERS if number not in case.damaged]


@cases_of(6)
@given(
    damaged=damaged_or_not,
    seed=seeds,
    sizes_=st.tuples(sizes, sizes),
    position=st.integers(0, 30),
    count=threads,
    repeated=repeats,
)
def test_a_restored_position_goes_on_exactly_and_reads_little_before(
    cases, damaged, seed, sizes_, position, count, repeated
):
    case = cases[0][damaged]
    size, other_size = sizes_
    reading = {"seed": seed, "repeats": repeated}
    straight, _ = dataset(case, batch_size=size, **reading)
    before = position // size
    batches, positions = take(straight, before + 8)
    expected = joined(batches[before:])
    saved = json.loads(json.dumps(positions[before]))  # As a checkpoint keeps it.

    resumed, source = dataset(case, batch_size=other_size, num_threads=count, **reading)
    source.reads.clear()
    batches, positions = take(resumed, 2, saved)
    found, length = joined(batches), min(2 * other_size, 8 * size)
    assert_same(
        {name: value[:length] for name, value in found.items()},
        {name: value[:length] for name, value in expected.items()},
    )
    assert positions[-1]["examples_consumed"] == before * size + 2 * other_size
    # What was asked for, and what is read ahead: two pieces of a batch for each thread. Where a
    # batch is all padding, the first two show what an example looks like: the first is damaged.
    assert len(source.reads) <= 2 * other_size + 2 * count * other_size + (2 if damaged else 0)


def test_a_position_far_away_is_reached_without_reading_what_comes_before(cases):
    case = cases[0][False]
    resumed, source = dataset(case, batch_size=20 * COUNT, num_threads=2, seed=3)
    source.reads.clear()
    batches, _ = take(resumed, 1, {"seed": 3, "examples_consumed": 10**9 * COUNT})
    epochs = np.reshape(real(joined(batches)), (20, COUNT))
    # A thread has a few examples in hand at a time, however large a batch is.
    assert len(source.reads) <= 20 * COUNT + 2 * 2 * 16
    assert (np.sort(epochs) == NUMBERS).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 15


@cases_of(4)
@given(damaged=damaged_or_not, seed=seeds, size=sizes, count=threads, repeated=repeats)
def test_every_epoch_has_every_example_once_or_as_often_as_it_is_repeated(
    cases, damaged, seed, size, count, repeated
):
    case = cases[0][damaged]
    made, _ = dataset(case, batch_size=size, seed=seed, num_threads=count, repeats=repeated)
    length = COUNT * repeated
    examples = joined(take(made, -(-2 * length // size))[0])
    whole = [number for number in NUMBERS if number not in case.damaged]
    for epoch in range(2):
        part = slice(epoch * length, (epoch + 1) * length)
        numbers, mask = examples["/number"][part], examples["/batch_mask"][part]
        assert collections.Counter(numbers[mask > 0].tolist()) == dict.fromkeys(whole, repeated)
        # Repeats follow one another, each with draws of its own.
        runs = numbers.reshape(COUNT, repeated)
        assert (runs == runs[:, :1]).all()
        draws = examples["/draw"][part][mask > 0]
        assert len(np.unique(draws, axis=0)) == len(draws)


@cases_of(20)
@given(damaged=damaged_or_not, size=st.integers(1, 2 * COUNT), count=threads, cache=caches)
def test_evaluation_is_in_order_and_what_is_missing_is_masked_where_it_is(
    cases, damaged, size, count, cache
):
    case, folders = cases[0][damaged], cases[1]
    made, _ = dataset(
        case,
        folders=folders,
        eval_batch_size=size,
        num_threads=count,
        cache=cache_for(case, cache),
    )
    batches = list(made.test_iter)
    assert len(batches) == len(made.test_iter) == -(-COUNT // size)
    assert all(len(batch["number"]) == size for batch in batches)
    examples = joined(batches)
    shown = [0 if number in case.damaged else number for number in case.order]
    padded = shown + [0] * (len(batches) * size - COUNT)
    np.testing.assert_array_equal(examples["/number"], padded)
    np.testing.assert_array_equal(examples["/batch_mask"], np.sign(padded))
    hidden = examples["/batch_mask"] == 0
    for name, value in examples.items():
        assert not value[hidden].any(), name
    assert examples["/inputs"][~hidden].any(axis=tuple(range(1, examples["/inputs"].ndim))).all()
