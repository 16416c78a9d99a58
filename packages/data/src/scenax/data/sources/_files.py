"""What the sources of users' own files share: listing a folder, classes by folder, boxes.

The order of files is that of their names, relative to the folder, with ``/`` on every system, in
Unicode's composed form (NFC), compared by code point: the same wherever the files are copied to.
Some systems write an accent as a character of its own; a name in an annotation fits either way.
"""

import collections
import io
import os
import pathlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from PIL import Image

from scenax.common.registry import did_you_mean
from scenax.data.reports import Report, UnreadableError
from scenax.data.transforms.image import encoded_size

_NAMED = 5
# COCO writes two decimals: what rounding moves out of the image is not worth a line.
_ROUNDING = 0.01


class Kind(NamedTuple):
    """What a source looks for."""

    noun: str
    extensions: frozenset[str]


IMAGES = Kind(
    "image",
    frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".jp2"})
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"},
)
VIDEOS = Kind("video", frozenset({".mp4", ".avi", ".webm", ".mkv", ".mov", ".gif"}))
AUDIO = Kind("audio file", frozenset({".wav", ".flac", ".ogg", ".mp3"}))


class File(NamedTuple):
    """A file: its name relative to the folder it was found in, its path, its bytes."""

    name: str
    path: str
    size: int

    def read(self) -> bytes:
        """Returns what is in it.

        Raises:
          UnreadableError: if that is nothing.
        """
        return pathlib.Path(self.filled_path()).read_bytes()

    def filled_path(self) -> str:
        """Returns its path.

        Raises:
          UnreadableError: if it is empty.
        """
        if not os.path.getsize(self.path):
            raise UnreadableError(f"{self.path} is empty (0 bytes). Copy it anew, or delete it.")
        return self.path


class Folder:
    """All files of a folder and of the folders in it, in order, the hidden ones left out."""

    def __init__(self, root: str | os.PathLike[str], wanted: str, report: Report) -> None:
        """``wanted`` says in a message what the folder should be.

        Raises:
          FileNotFoundError: if there is no such folder.
          ValueError: if it is a file.
        """
        self.root = existing_folder(root, wanted)
        self.wanted = wanted
        self.report = report
        self.files = sorted(self._scan(str(self.root), "", ()))

    def _scan(self, path: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterable[File]:
        here = os.stat(path)
        if (here.st_dev, here.st_ino) in above:
            self.report.add("link to a folder that it is in, left out", prefix.rstrip("/"))
            return
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    continue
                name = prefix + composed(entry.name)
                if entry.is_dir():
                    inner = (*above, (here.st_dev, here.st_ino))
                    yield from self._scan(entry.path, f"{name}/", inner)
                elif entry.is_file():
                    yield File(name, entry.path, entry.stat().st_size)
                else:
                    self.report.add("neither a file nor a folder (a broken link?), left out", name)

    def only(self, kind: Kind) -> list[File]:
        """Returns the files of a kind; the others, and empty ones, are reported.

        Raises:
          ValueError: if there are none.
        """
        found = [file for file in self.files if extension(file.name) in kind.extensions]
        if not found:
            raise ValueError(
                f"{self.root} holds no {kind.noun}. Wanted is {self.wanted}; {kind.noun}s end in "
                f"{', '.join(sorted(kind.extensions))}. Found: {self.summary()}."
            )
        for file in self.files:
            if extension(file.name) not in kind.extensions:
                article = "an" if kind.noun[0] in "aeiou" else "a"
                self.report.add(f"not {article} {kind.noun}, left out", file.name)
        report_empty(found, self.report)
        return found

    def summary(self) -> str:
        """Returns how many files there are by extension."""
        seen = collections.Counter(extension(file.name) or "no ending" for file in self.files)
        return ", ".join(f"{n} x {name}" for name, n in seen.most_common(_NAMED)) or "no files"


class Labelled(NamedTuple):
    """Files and the classes that their folders say."""

    files: list[File]
    labels: np.ndarray
    label_names: tuple[str, ...]


def by_class(folder: Folder, kind: Kind, class_names: Sequence[str] | None) -> Labelled:
    """Returns the files of a kind, each with the class that the first folder of its name is.

    Raises:
      ValueError: if there are none; if some are in no folder; if a folder with some is not among
        ``class_names``, or these repeat one.
    """
    files = folder.only(kind)
    loose = [file.name for file in files if "/" not in file.name]
    if loose:
        raise ValueError(
            f"{folder.root} holds {kind.noun}s in no class's folder: {some(loose)}. Wanted is "
            f"{folder.wanted}. Move each into the folder of its class."
        )
    found = {file.name.split("/")[0] for file in files}
    for name in {composed(path.name) for path in subfolders(folder.root)} - found:
        folder.report.add(f"folder without {kind.noun}s, left out", name)
    label_names = class_order(class_names) if class_names is not None else tuple(sorted(found))
    for name in sorted(found - set(label_names)):
        raise ValueError(
            f"{folder.root} has the folder {name!r}, which is not among the {len(label_names)} "
            f"classes. {did_you_mean(name, label_names)} Rename the folder, or give all classes."
        )
    for name in set(label_names) - found:
        folder.report.add(f"class without {kind.noun}s", name)
    if len(label_names) == 1:
        folder.report.add("the only class", label_names[0])
    ids = {name: i for i, name in enumerate(label_names)}
    labels = np.array([ids[file.name.split("/")[0]] for file in files], np.int32)
    return Labelled(files, labels, label_names)


def class_order(class_names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of classes in composed form.

    Raises:
      ValueError: if one is there twice.
    """
    names = tuple(composed(name) for name in class_names)
    repeated = sorted(name for name, n in collections.Counter(names).items() if n > 1)
    if repeated:
        raise ValueError(f"class_names has {some(repeated)} more than once. Give each class once.")
    return names


def existing_folder(path: str | os.PathLike[str], wanted: str) -> pathlib.Path:
    """Returns the absolute path of a folder that is there.

    Raises:
      FileNotFoundError: if it is not.
      ValueError: if it is a file.
    """
    root = pathlib.Path(path).expanduser().absolute()
    if root.is_file():
        raise ValueError(
            f"{root} is a file, but wanted is {wanted}. Give a folder; unpack an archive first."
        )
    if not root.is_dir():
        above = next(parent for parent in root.parents if parent.is_dir())
        names = [folder.name for folder in subfolders(above)]
        raise FileNotFoundError(
            f"There is no folder {root}. Wanted is {wanted}. In {above}: "
            f"{did_you_mean(root.relative_to(above).parts[0], names)}"
        )
    return root


def subfolders(root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders directly in one, by name, the hidden ones left out."""
    found = [path for path in root.iterdir() if not _is_hidden(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: composed(path.name))


def by_name(files: Iterable[File], name: Callable[[str], str]) -> dict[str, File]:
    """Returns files by ``name`` of theirs.

    Raises:
      ValueError: if it is the same for two, which can differ in the spelling of an accent only.
    """
    found: dict[str, File] = {}
    for file in files:
        key = name(file.name)
        if key in found:
            raise ValueError(
                f"{found[key].path!a} and {file.path!a} are both called {key!r}, so that which of "
                "them is meant is not clear. Keep one, or rename it."
            )
        found[key] = file
    return found


def stem(name: str) -> str:
    """Returns a name without its extension."""
    return os.path.splitext(name)[0]


def report_empty(files: Iterable[File], report: Report) -> None:
    """Reports the files of zero bytes."""
    for file in files:
        if not file.size:
            report.add("empty file", file.name)


def inside(name: object, where: str) -> str:
    """Returns the name that an annotation gives to a file, as ``Folder`` writes it.

    Raises:
      ValueError: if it is not text, or leads out of the folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{where} should name a file, got {name!r}.")
    path = pathlib.PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or pathlib.PureWindowsPath(name).drive:
        raise ValueError(
            f"{where} names the file {name!r}, which is not below the folder of images. Write it "
            "relative to that folder, without '..'."
        )
    return composed(str(path))


def composed(name: str) -> str:
    """Returns a name in Unicode's composed form, NFC."""
    return unicodedata.normalize("NFC", name)


def extension(name: str) -> str:
    """Returns the extension in small letters, its dot included."""
    return os.path.splitext(name)[1].lower()


def some(names: Sequence[object]) -> str:
    """Returns the first few of some names, for a message."""
    return ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")


def decoded(file: File) -> Image.Image:
    """Returns an image, read to its end.

    Raises:
      UnreadableError: if that cannot be done.
    """
    encoded = file.read()
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
    except Exception as error:  # The reader of every format has errors of its own.
        raise UnreadableError(
            f"{file.path} cannot be read as an image: {error}. Copy it anew, or delete it."
        ) from error
    return image


def check_size(file: File, encoded: bytes, size: tuple[int, ...], where: str) -> None:
    """Checks an image's height and width, turned as its camera says, from its header.

    Raises:
      UnreadableError: if it has no such header, or is not as large as ``where`` says it is.
    """
    try:
        height, width = encoded_size(encoded, name=file.name)
    except UnreadableError as error:
        raise UnreadableError(
            f"{file.path} cannot be read as an image: {error}. Copy it anew, or delete it."
        ) from error
    if (height, width) != size:
        raise UnreadableError(
            f"{file.path} is of {height} x {width} pixels (height x width, upright), but {where} "
            f"of {size[0]} x {size[1]}. Make them of one size."
        )


def repair_boxes(
    boxes: Float[np.ndarray, "n 4"],
    heights: Shaped[np.ndarray, " n"],
    widths: Shaped[np.ndarray, " n"],
    place: Callable[[int], str],
    report: Report,
) -> tuple[Float[np.ndarray, "n 4"], Bool[np.ndarray, " n"]]:
    """Returns xyxy boxes in pixels cut at the images' borders, and which of them to keep.

    Those with a coordinate that is no finite number, or without an area in the image, are not to
    be kept. ``place(i)`` is what the report calls box ``i``.
    """
    limits = np.stack([widths, heights, widths, heights], axis=1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(boxes).all(axis=1)
        cut = np.clip(boxes, 0, limits)
        clipped = (np.abs(cut - boxes) > _ROUNDING).any(axis=1)
        cut = cut.astype(np.float32)
        kept = np.asarray(finite & (cut[:, 2:] > cut[:, :2]).all(axis=1))
    kinds = {
        "box that is no finite number, dropped": ~finite,
        "box without area in the image, dropped": finite & ~kept,
        "box outside the image, clipped": kept & clipped,
    }
    for kind, where in kinds.items():
        for i in np.flatnonzero(where):
            report.add(kind, place(int(i)))
    return cut, kept


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
