"""Files of weights, whose arrays are read one by one when they are asked for.

``.safetensors`` by the library of that name, one or, as transformers writes large models, many with
an index; ``.npz`` by numpy without pickles; ``.pth``, ``.pt`` and ``.bin`` by torch where it is
installed; and folders that Orbax wrote. No file is trusted, and none can run code.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import safetensors

from scenax.models.pretrained.orbax import open_orbax
from scenax.models.pretrained.stored import Stored, WeightsError
from scenax.models.pretrained.torch import SUFFIXES, open_torch, unwrapped

KINDS = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": ml_dtypes.bfloat16, "BOOL": "?"}
KINDS |= {f"{sign}{8 * size}": f"{sign.lower()}{size}" for sign in "IU" for size in (1, 2, 4, 8)}
"""Types of safetensors, as numpy calls them."""

INDEX = ".safetensors.index.json"
"""How the name of a file ends that says in which files arrays are."""


def open_weights(path: str | pathlib.Path) -> dict[str, Stored]:
    """Returns the arrays of a file by name; each is read when it is indexed.

    Names lose what torch's wrappers put in front of them. Those of an Orbax checkpoint are paths
    of variables, ``"params/head/kernel"``; what it holds besides variables is left out.

    Args:
      path: of a ``.safetensors``, ``.npz``, ``.pth``, ``.pt`` or ``.bin`` file; of the
        ``.safetensors.index.json`` of many files; or of a folder that Orbax wrote: a checkpoint, or
        many of which the one of the last step is taken.

    Raises:
      FileNotFoundError: if there is none.
      WeightsError: if it cannot be read, now or when an array is asked for; if it holds what is
        not data; or if it needs torch, which is not installed.
    """
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder of weights {str(path)!r}.")
    if path.is_dir():
        return open_orbax(path)
    if path.suffix == ".safetensors":
        return unwrapped(_open_safetensors(path))
    if path.name.endswith(INDEX):
        return unwrapped(_open_shards(path))
    if path.suffix == ".npz":
        return unwrapped(_open_npz(path))
    if path.name.endswith(SUFFIXES):
        return open_torch(path)
    raise WeightsError(
        f"{path} is none of the files that hold weights: .safetensors, {INDEX}, "
        f".npz, {', '.join(SUFFIXES)}, or a folder that Orbax wrote."
    )


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
    damage = (safetensors.SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, ValueError)
    try:
        yield
    except WeightsError:
        raise
    except (*damage, KeyError, TypeError, AttributeError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read as {path.suffix}: {error}. It may be damaged, or not all of it "
            "may have been copied or downloaded: get it again."
        ) from error


def _open_safetensors(path: pathlib.Path) -> dict[str, Stored]:
    arrays = {}
    with _reading(path), safetensors.safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 (it is no mapping)
            header = file.get_slice(name)
            shape, kind = tuple(header.get_shape()), header.get_dtype()
            if kind not in KINDS:
                raise WeightsError(f"{path}: {name} is of type {kind}; there are {(*KINDS,)}.")
            read = functools.partial(_read_safetensors, path, name, shape)
            arrays[name] = Stored(shape, np.dtype(KINDS[kind]), read)
    return arrays


def _open_shards(path: pathlib.Path) -> dict[str, Stored]:
    with _reading(path):
        places = json.loads(path.read_text("utf-8"))["weight_map"]
        files = sorted(set(places.values()))
        outside = [f for f in files if pathlib.PureWindowsPath(f).name != f or f in ("", ".", "..")]
        if outside:  # A Windows path, since that has both kinds of slashes, and drives.
            raise WeightsError(f"{path} names files that are not in its own folder: {outside}.")
        arrays = {file: _open_safetensors(path.parent / file) for file in files}
        return {name: arrays[file][name] for name, file in places.items()}


def _read_safetensors(
    path: pathlib.Path, name: str, shape: tuple[int, ...], index: tuple[slice, ...]
) -> np.ndarray:
    # Opened each time: a mapped file counts as memory once it was read, until it is closed.
    with _reading(path), safetensors.safe_open(path, framework="np") as file:
        if all(one == slice(0, side) for one, side in zip(index, shape, strict=True)):
            return file.get_tensor(name)
        return file.get_slice(name)[index]


def _open_npz(path: pathlib.Path) -> dict[str, Stored]:
    arrays = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                headers = {(1, 0): np.lib.format.read_array_header_1_0}
                header = headers.get(version, np.lib.format.read_array_header_2_0)(file)
                start = file.tell()
            shape, by_columns, dtype = header
            if dtype.hasobject:
                raise WeightsError(
                    f"{path}: {name} is a pickle and not an array, and is not read: it could run "
                    "any code. Save arrays of numbers."
                )
            # numpy has no name for bfloat16, and writes two bytes of nothing in particular.
            dtype = np.dtype(ml_dtypes.bfloat16) if dtype == np.dtype("V2") else dtype
            as_in_memory = info.compress_type == zipfile.ZIP_STORED and not by_columns
            offset = _offset(path, info) + start if as_in_memory else None
            arrays[name] = Stored(shape, dtype, _Member(path, name, shape, dtype, offset).read)
    return arrays


def _offset(path: pathlib.Path, info: zipfile.ZipInfo) -> int:
    """Returns where in an archive a member starts, behind its own header."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name, extra = struct.unpack("<26xHH", file.read(30))
    return info.header_offset + 30 + name + extra


@dataclasses.dataclass(frozen=True)
class _Member:
    """An array in an archive. Where all of it is read, its checksum is compared."""

    path: pathlib.Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int | None
    """In the archive, if elements are there as they are in memory."""

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        sides = zip(index, self.shape, strict=True)
        whole = all(one == slice(0, side) for one, side in sides)
        with _reading(self.path):
            if not whole and self.offset is not None:  # As of stacks, which are read one by one.
                mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
                return np.array(mapped[index])
            with np.load(self.path, allow_pickle=False) as archive:
                array = archive[self.name]
        return (array.view(self.dtype) if array.dtype.kind == "V" else array)[(*index, ...)]
