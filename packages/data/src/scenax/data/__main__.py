"""Datasets on the command line: ``python -m scenax.data browse digit_scenes``.

``browse NAME`` writes a page of examples as a model sees them, with statistics of them.
``prepare NAME`` writes what training reads: a benchmark as TFDS makes it, or a folder of images as
a few large files, ``prepare image_folder --data_dir=photos --out=photos_prepared``.
"""

import argparse
import ast
import pathlib
import sys
from typing import Any

import tensorflow_datasets as tfds

from scenax.common.registry import did_you_mean
from scenax.data import browse, get_dataset, list_datasets
from scenax.data.prepare import prepare_image_folder


def main(arguments: list[str] | None = None) -> int:
    """Does what is asked for; returns the exit status, 2 for what cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m scenax.data", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_browse(commands)
    _add_prepare(commands)
    flags = parser.parse_args(arguments)
    try:
        return flags.run(flags)
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2


def _add_browse(commands: Any) -> None:
    parser = commands.add_parser("browse", help="write a page of examples", allow_abbrev=False)
    parser.set_defaults(run=_browse)
    parser.add_argument("name", metavar="NAME", help="the dataset")
    parser.add_argument("--out", help="the file; browse_NAME.html if not given")
    parser.add_argument("--split", default="train", choices=("train", "validation", "test"))
    parser.add_argument("--examples", type=int, default=24, help="how many are shown")
    parser.add_argument("--data_dir", help="where prepared data lie; TFDS's folder if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the training stream")
    parser.add_argument("--sample_rate", type=int, default=16_000, help="of sounds, to play them")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="the dataset's own: Python data, else text; may be given several times",
    )


def _browse(flags: argparse.Namespace) -> int:
    out = pathlib.Path(flags.out or f"browse_{flags.name.replace('/', '_')}.html")
    if not out.parent.is_dir():
        raise ValueError(f"There is no folder {out.parent} to write {out.name} to.")
    options = dict(map(_option, flags.option))
    try:
        dataset = get_dataset(
            flags.name,
            batch_size=16,
            seed=flags.seed,
            data_dir=flags.data_dir,
            unreadable="skip",
            **options,
        )
    except TypeError as error:  # An option's value of another type than the dataset wants.
        raise ValueError(f"{flags.name} cannot be made with these options: {error}.") from error
    page = browse.browse_page(
        dataset,
        title=flags.name,
        examples=flags.examples,
        split=flags.split,
        options=options | {"seed": flags.seed},
        sample_rate=flags.sample_rate,
    )
    out.write_text(page, encoding="utf-8")
    sys.stdout.write(f"Wrote {out} ({len(page) / 1e6:.2f} MB). Open it in a browser.\n")
    return 0


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser("prepare", help="write what training reads", allow_abbrev=False)
    parser.set_defaults(run=_prepare)
    parser.add_argument("name", metavar="NAME", help="image_folder, or a benchmark")
    parser.add_argument("--data_dir", help="the folder of images, or where TFDS keeps its data")
    parser.add_argument("--out", help="of image_folder: where the files are written")
    parser.add_argument("--images_per_file", type=int, default=1000)
    parser.add_argument("--num_threads", type=int, help="one a core if not given")
    parser.add_argument(
        "--unreadable",
        choices=("raise", "skip"),
        default="raise",
        help="whether a broken image stops, or is left out and named",
    )


def _prepare(flags: argparse.Namespace) -> int:
    if flags.name != "image_folder":
        return _prepare_benchmark(flags)
    if flags.data_dir is None or flags.out is None:
        raise ValueError("Give the folder of images with --data_dir, and a new one with --out.")
    prepared = prepare_image_folder(
        flags.data_dir,
        flags.out,
        images_per_file=flags.images_per_file,
        num_threads=flags.num_threads,
        unreadable=flags.unreadable,
    )
    counts = ", ".join(f"{count} {split}" for split, count in prepared.counts.items())
    sys.stdout.write(f"Wrote {counts} images to {prepared.folder}.\n")
    if prepared.report:
        sys.stdout.write(f"{prepared.report}\n")
    return 0


def _prepare_benchmark(flags: argparse.Namespace) -> int:
    if flags.out is not None:
        raise ValueError(f"TFDS keeps {flags.name} in --data_dir; --out is of image_folder only.")
    try:
        builder = tfds.builder(flags.name, data_dir=flags.data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"TFDS has no dataset {flags.name!r}. {did_you_mean(flags.name, list_datasets())}"
        ) from error
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # What TFDS says of files that were not fetched by hand.
        raise ValueError(str(error)) from error
    sys.stdout.write(f"{flags.name} is prepared in {builder.data_dir}.\n")
    return 0


def _option(text: str) -> tuple[str, Any]:
    """A key and its value, read as Python data if it is, else as text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"An option has the form KEY=VALUE, got {text!r}.")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


if __name__ == "__main__":
    sys.exit(main())
