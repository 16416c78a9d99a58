"""Examples by index from TFDS, without TensorFlow.

TFDS reads at random from ArrayRecord files only, and its own default, TFRecord, cannot be read so.
A copy in ArrayRecord is therefore kept in a folder of its own, ``<data_dir>/array_record``, and
what ``tfds.load`` prepared or will prepare is left as it is.
"""

import contextlib
import io
import pathlib
import shlex
import textwrap
from collections.abc import Sequence

import tensorflow_datasets as tfds

from scenax.data.pipeline import Source


def prepare(name: str, *, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """Returns a dataset made from what is installed, prepared first if need be, in silence.

    Raises:
      OSError: if the data have to be prepared and ``data_dir`` cannot be written.
    """
    root = _array_record_root(data_dir)
    builder = tfds.builder(name, data_dir=root, file_format="array_record")
    try:
        # What is made from an installed library takes a moment: no bars, no talk of downloads.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare()
    except OSError as error:
        raise OSError(
            f"Cannot prepare {name!r} in {root}: {error}. Give a folder that can be written, "
            "with --data_dir or data_dir=."
        ) from error
    return builder


def open_prepared(name: str, *, data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """Returns the newest prepared version of a dataset; nothing is downloaded or written.

    For datasets whose files a user has to fetch by hand.

    Raises:
      FileNotFoundError: if none is prepared; the message says what to fetch and what to run.
    """
    root = _array_record_root(data_dir)
    folders = [info.parent for info in (root / name).glob("*/dataset_info.json")]
    # A folder that is still being written has a name that is no version.
    folders = [folder for folder in folders if tfds.core.Version.is_valid(folder.name)]
    if not folders:
        raise FileNotFoundError(_how_to_prepare(name, root))
    newest = max(folders, key=lambda folder: tfds.core.Version(folder.name))
    return tfds.builder_from_directory(newest)


def open_lazily(
    builder: tfds.core.DatasetBuilder, split: str, *, encoded: Sequence[str] = ()
) -> Source:
    """Returns a split whose examples are read when they are asked for, at random.

    Args:
      builder: of data prepared in ArrayRecord.
      split: in TFDS's notation, ``"train[:99%]"`` for instance.
      encoded: the features that stay the bytes they are on disk, for a transform to decode.
    """
    decoders = {name: tfds.decode.SkipDecoding() for name in encoded}
    return builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]


def _array_record_root(data_dir: str | None) -> pathlib.Path:
    default = tfds.core.constants.DATA_DIR  # pyright: ignore[reportAttributeAccessIssue]
    return pathlib.Path(data_dir or default).expanduser() / "array_record"


def _how_to_prepare(name: str, root: pathlib.Path) -> str:
    # Not `tfds build`, which needs Apache Beam for any dataset.
    program = (
        "import tensorflow_datasets as tfds; "
        f'tfds.builder("{name}", data_dir="{root}", file_format="array_record")'
        ".download_and_prepare()"
    )
    wanted = textwrap.dedent(tfds.builder_cls(name).MANUAL_DOWNLOAD_INSTRUCTIONS or "").strip()
    return (
        f"{name} is not prepared in {root / name}. If it is elsewhere, give the folder that holds "
        f"array_record/{name} with --data_dir or data_dir=. If not, fetch its files by hand, as "
        f"TFDS asks:\n\n{textwrap.indent(wanted, '  ')}\n\nwhere manual_dir is "
        f"{root / 'downloads' / 'manual'}. Then write the ArrayRecord copy, once:\n\n"
        f"  python -c {shlex.quote(program)}\n"
    )
