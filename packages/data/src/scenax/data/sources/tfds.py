"""Examples by index from TFDS, without TensorFlow.

What ``tfds.load`` prepared is read as it lies there, be it TFRecord files (TFDS's default) or
ArrayRecord files. The embedded datasets are prepared in ArrayRecord, which needs no TensorFlow to
write, in ``<data_dir>/array_record``; a dataset is looked for there, too.
"""

import contextlib
import io
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from scenax.data.examples import Example, Source
from scenax.data.sources.tfrecord import RecordFile, Records


def prepare(name: str, *, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """Returns a dataset made from what is installed, prepared first if need be, in silence.

    Raises:
      OSError: if the data have to be prepared and ``data_dir`` cannot be written.
    """
    root = _root(data_dir) / "array_record"
    builder = tfds.builder(name, data_dir=root, file_format="array_record")
    try:
        # What is made from an installed library takes a moment: no bars, no talk of downloads.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare()
    except OSError as error:
        # Another process that began a moment earlier may have come first.
        builder = tfds.builder(name, data_dir=root, file_format="array_record")
        if builder.is_prepared():
            return builder
        raise OSError(
            f"Cannot prepare {name!r} in {root}: {error}. Give a folder that can be written, "
            "with --data_dir or data_dir=."
        ) from error
    return builder


def open_prepared(name: str, *, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """Returns the newest prepared version of a dataset; nothing is downloaded or written.

    Args:
      name: as TFDS has it, with the configuration if there are several: ``"coco/2017"``. Without
        it the first one that TFDS lists.
      data_dir: where TFDS keeps its data; its own default if not given.

    Raises:
      FileNotFoundError: if none is prepared; the message says what to fetch and what to run.
    """
    name = _with_config(name)
    for root in (_root(data_dir), _root(data_dir) / "array_record"):
        folders = [info.parent for info in (root / name).glob("*/dataset_info.json")]
        # A folder that is still being written has a name that is no version.
        folders = [folder for folder in folders if tfds.core.Version.is_valid(folder.name)]
        if folders:
            newest = max(folders, key=lambda folder: tfds.core.Version(folder.name))
            return tfds.builder_from_directory(newest)
    raise FileNotFoundError(_how_to_prepare(name, _root(data_dir)))


def open_lazily(
    builder: tfds.core.DatasetBuilder,
    split: str,
    *,
    encoded: Sequence[str | tuple[str, str]] = (),
) -> Source:
    """Returns a split whose examples are read when they are asked for, at random.

    Args:
      builder: of prepared data.
      split: in TFDS's notation, ``"train[:99%]"`` for instance.
      encoded: the features that stay the bytes they are on disk, for a transform to decode; one
        of a sequence is given by both names, ``("objects", "segmentation")``.
    """
    decoders: dict[str, Any] = {}
    for name in encoded:
        outer, inner = (name, None) if isinstance(name, str) else name
        decoders[outer] = _Encoded() if inner is None else {inner: _Encoded()}
    return _Examples(builder, split, decoders)


class _Encoded(tfds.decode.SkipDecoding):
    """Leaves values the bytes that they are, which TFDS's own does outside of sequences only."""

    def decode_batch_example_np(self, serialized_example: Any) -> Any:
        return serialized_example


class _Examples:
    """The examples of a split."""

    def __init__(
        self, builder: tfds.core.DatasetBuilder, split: str, decoders: dict[str, Any]
    ) -> None:
        self._features: Any = builder.info.features
        self._decoders = decoders
        if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            self._records: Any = builder.as_data_source(split, deserialize_method=raw)  # pyright: ignore[reportCallIssue]
            return
        instructions = builder.info.splits[split].file_instructions
        files = [
            RecordFile(pathlib.Path(part.filename), count=part.examples_in_shard)
            for part in instructions
        ]
        parts = [range(part.skip, part.skip + part.take) for part in instructions]
        self._records = Records(files, parts)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int, /) -> Example:
        return self._features.deserialize_example_np(self._records[index], decoders=self._decoders)


def _root(data_dir: str | None) -> pathlib.Path:
    default = tfds.core.constants.DATA_DIR  # pyright: ignore[reportAttributeAccessIssue]
    return pathlib.Path(data_dir or default).expanduser()


def _with_config(name: str) -> str:
    """The name with a configuration, if the dataset has any."""
    base, slash, _ = name.partition("/")
    try:
        configs = tfds.builder_cls(base).BUILDER_CONFIGS
    except tfds.core.DatasetNotFoundError:
        return name  # Prepared by a builder that is not here any more.
    return name if slash or not configs else f"{base}/{configs[0].name}"


def _how_to_prepare(name: str, root: pathlib.Path) -> str:
    try:
        wanted = tfds.builder_cls(name.partition("/")[0]).MANUAL_DOWNLOAD_INSTRUCTIONS or ""
    except tfds.core.DatasetNotFoundError:
        return (
            f"{name} is not prepared in {root / name}, and TFDS has no builder of that name. Give "
            f"the folder that holds {name} with --data_dir or data_dir=."
        )
    by_hand = (
        f" Its files are fetched by hand, as TFDS asks:\n\n"
        f"{textwrap.indent(textwrap.dedent(wanted).strip(), '  ')}\n\nwhere manual_dir is "
        f"{root / 'downloads' / 'manual'}. Then"
        if wanted
        else " If not,"
    )
    return (
        f"{name} is not prepared in {root / name}. If it is elsewhere, give the folder that holds "
        f"{name} with --data_dir or data_dir=.{by_hand} write the prepared copy, once:\n\n"
        f"  python -m scenax.data prepare {name} --data_dir={root}\n"
    )
