"""Against TFDS's own readers, of copies that TFDS wrote in both of its formats."""

import io
import pathlib
import shutil
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from scenax.data.sources.tfds import open_lazily, open_prepared, prepare

COUNT = 53
FORMATS = ("tfrecord", "array_record")


class ScenaxNumbers(tfds.core.GeneratorBasedBuilder):
    """Images of one grey, with a name and a list."""

    VERSION = tfds.core.Version("1.0.0")
    SUPPORTED_VERSIONS: ClassVar = [tfds.core.Version("1.10.0"), tfds.core.Version("1.9.0")]

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(4, 5, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=7),
                    "name": tfds.features.Text(),
                    "values": tfds.features.Sequence(np.int64),
                }
            )
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0), "test": self._generate_examples(100)}

    def _generate_examples(self, first):
        for i in range(first, first + COUNT):
            yield (
                i,
                {
                    "image": np.full((4, 5, 1), i, np.uint8),
                    "label": i % 7,
                    "name": f"number {i}",
                    "values": list(range(i % 4)),
                },
            )


class ScenaxConfigured(ScenaxNumbers):
    """The same with configurations."""

    VERSION = tfds.core.Version("1.0.0")
    SUPPORTED_VERSIONS: ClassVar = []
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="small", version="1.0.0"),
        tfds.core.BuilderConfig(name="large", version="1.0.0"),
    ]


class ScenaxManual(ScenaxNumbers):
    """The same of files that are fetched by hand."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Fetch numbers.tar from example.com
    and put it into manual_dir.
    """


def written(root, name, file_format, **options):
    builder = tfds.builder(name, data_dir=root, file_format=file_format, **options)
    # In several files, so that parts begin and end within them.
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=4, try_download_gcs=False)
    )
    return builder


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Prepared copies by format."""
    return {
        file_format: written(tmp_path_factory.mktemp(file_format), "scenax_numbers", file_format)
        for file_format in FORMATS
    }


@pytest.fixture
def placed(copies, tmp_path):
    """Puts a copy of a format where it is asked for, and returns the root."""

    def place(file_format, to):
        shutil.copytree(copies[file_format].data_dir, tmp_path / to)
        return str(tmp_path)

    return place


def rows(examples):
    """Examples as plain values that can be compared."""
    return [
        (
            int(np.asarray(example["image"]).max()),
            int(example["label"]),
            bytes(example["name"]).decode(),
            np.asarray(example["values"]).tolist(),
        )
        for example in examples
    ]


def read(source):
    return rows(source[index] for index in range(len(source)))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_prepared_copy_is_found(placed, file_format):
    root = placed(file_format, "scenax_numbers/1.0.0")
    builder = open_prepared("scenax_numbers", data_dir=root)
    assert pathlib.Path(builder.data_dir) == pathlib.Path(root) / "scenax_numbers" / "1.0.0"
    assert builder.info.file_format == tfds.core.FileFormat(file_format)
    assert builder.info.splits["train"].num_examples == COUNT


def test_embedded_copies_have_a_folder_of_their_own(placed):
    root = placed("array_record", "array_record/scenax_numbers/1.0.0")
    builder = open_prepared("scenax_numbers", data_dir=root)
    assert "array_record" in pathlib.Path(builder.data_dir).parts
    # TFDS's own place comes first.
    placed("tfrecord", "scenax_numbers/1.0.0")
    builder = open_prepared("scenax_numbers", data_dir=root)
    assert builder.info.file_format == tfds.core.FileFormat.TFRECORD


def test_the_newest_version_that_is_finished_is_taken(placed):
    # As numbers, not as text; what is being written has a name that is no version.
    for version in ("1.0.0", "1.9.0", "1.10.0", "2.0.0.incompleteA1B2C3", "downloads"):
        root = placed("array_record", f"scenax_numbers/{version}")
    unfinished = pathlib.Path(root) / "scenax_numbers" / "3.0.0"
    unfinished.mkdir()
    builder = open_prepared("scenax_numbers", data_dir=root)
    assert pathlib.Path(builder.data_dir).name == "1.10.0"


@pytest.mark.parametrize(
    ("name", "folder"),
    [("scenax_configured", "small"), ("scenax_configured/large", "large")],
)
def test_without_a_configuration_the_first_is_meant(placed, name, folder):
    for config in ("large", "small"):
        root = placed("array_record", f"scenax_configured/{config}/1.0.0")
    builder = open_prepared(name, data_dir=root)
    assert pathlib.Path(builder.data_dir).parent.name == folder


def test_the_subsets_of_imagenet_are_configurations(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"imagenet2012_subset/1pct is not prepared in"):
        open_prepared("imagenet2012_subset", data_dir=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"imagenet2012_subset/10pct is not prepared in"):
        open_prepared("imagenet2012_subset/10pct", data_dir=str(tmp_path))


def test_a_builder_that_is_gone_is_not_needed(placed):
    root = placed("tfrecord", "my_own_numbers/1.0.0")
    builder = open_prepared("my_own_numbers", data_dir=root)
    assert len(open_lazily(builder, "train")) == COUNT


def message(name, root):
    with pytest.raises(FileNotFoundError) as caught:
        open_prepared(name, data_dir=str(root))
    return str(caught.value)


def test_what_is_not_prepared_says_what_to_run(tmp_path):
    found = message("scenax_numbers", tmp_path)
    assert found.startswith(f"scenax_numbers is not prepared in {tmp_path / 'scenax_numbers'}. ")
    assert "give the folder that holds scenax_numbers with --data_dir or data_dir=" in found
    assert f"\n  python -m scenax.data prepare scenax_numbers --data_dir={tmp_path}\n" in found
    assert "by hand" not in found
    assert not any(tmp_path.iterdir())  # Nothing is written.


def test_what_is_fetched_by_hand_says_what_to_fetch_and_where_to_put_it(tmp_path):
    found = message("scenax_manual", tmp_path)
    assert "\n  Fetch numbers.tar from example.com\n  and put it into manual_dir.\n" in found
    assert f"where manual_dir is {tmp_path / 'downloads' / 'manual'}. Then write" in found
    assert f"prepare scenax_manual --data_dir={tmp_path}" in found


def test_an_unknown_name_is_said_to_be_unknown(tmp_path):
    found = message("no_such_numbers", tmp_path)
    assert f"{tmp_path / 'no_such_numbers'}, and TFDS has no builder of that name" in found
    assert "python -m" not in found


def test_a_home_folder_may_be_abbreviated(placed, monkeypatch):
    root = placed("array_record", "scenax_numbers/1.0.0")
    monkeypatch.setenv("HOME", root)
    assert open_prepared("scenax_numbers", data_dir="~").info.splits["test"].num_examples == COUNT


SPLITS = [
    "train",
    "test",
    "train[10:60%]",
    "train[:3]",
    "train[-7:]",
    "train[13:14]",
    "train[98%:]",
    "train[:50%]+test[40:]",
    "train[1shard:3shard]",
]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("file_format", FORMATS)
def test_examples_and_their_order_are_tfds_own(copies, file_format, split):
    builder = copies[file_format]
    if file_format == "tfrecord":
        in_order = tfds.ReadConfig(interleave_cycle_length=1)
        expected = rows(tfds.as_numpy(builder.as_dataset(split=split, read_config=in_order)))
    else:
        source = builder.as_data_source(split=split)
        expected = rows(source[index] for index in range(len(source)))
    assert len(expected) == builder.info.splits[split].num_examples > 0
    found = open_lazily(builder, split)
    assert len(found) == len(expected)
    assert read(found) == expected


@pytest.mark.parametrize("file_format", FORMATS)
def test_parts_of_a_split_are_disjoint_and_complete(copies, file_format):
    builder = copies[file_format]
    parts = ("train[:10%]", "train[10:60%]", "train[60%:]")
    names = [row[2] for part in parts for row in read(open_lazily(builder, part))]
    assert names == [row[2] for row in read(open_lazily(builder, "train"))]
    assert set(names) == {f"number {i}" for i in range(COUNT)}


@pytest.mark.parametrize("file_format", FORMATS)
def test_encoded_features_stay_the_bytes_that_they_are(copies, file_format):
    source = open_lazily(copies[file_format], "train[5:9]", encoded=["image"])
    for index, expected in enumerate(read(open_lazily(copies[file_format], "train[5:9]"))):
        example = source[index]
        assert isinstance(example["image"], bytes)
        pixels = np.asarray(Image.open(io.BytesIO(example["image"])))
        assert (pixels.shape, int(pixels.max())) == ((4, 5), expected[0])
        assert int(example["label"]) == expected[1]


@pytest.mark.parametrize("file_format", FORMATS)
def test_an_index_beyond_the_end_is_an_error(copies, file_format):
    source = open_lazily(copies[file_format], "train[:5]")
    with pytest.raises((IndexError, ValueError)):
        source[5]


def test_a_copy_is_prepared_once_and_in_silence(tmp_path, capfd):
    first = prepare("scenax_numbers", data_dir=str(tmp_path))
    path = pathlib.Path(first.data_dir)
    assert path == tmp_path / "array_record" / "scenax_numbers" / "1.0.0"
    times = {each: each.stat().st_mtime_ns for each in path.iterdir()}
    prepare("scenax_numbers", data_dir=str(tmp_path))
    assert {each: each.stat().st_mtime_ns for each in path.iterdir()} == times
    assert open_prepared("scenax_numbers", data_dir=str(tmp_path)).data_dir == first.data_dir
    assert capfd.readouterr().out == ""


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Cannot prepare 'scenax_numbers' in .*file.*--data_dir"):
        prepare("scenax_numbers", data_dir=str(tmp_path / "file"))


def test_another_process_may_prepare_the_same_copy_meanwhile(tmp_path, monkeypatch):
    generate = ScenaxNumbers._generate_examples

    def outrun(builder, first):
        monkeypatch.setattr(ScenaxNumbers, "_generate_examples", generate)
        prepare("scenax_numbers", data_dir=str(tmp_path))  # As the other one does.
        yield from generate(builder, first)

    monkeypatch.setattr(ScenaxNumbers, "_generate_examples", outrun)
    builder = prepare("scenax_numbers", data_dir=str(tmp_path))
    assert builder.info.splits["train"].num_examples == COUNT
