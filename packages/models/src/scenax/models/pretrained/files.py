"""Files of weights, whose arrays are read one by one when they are asked for.

``.safetensors`` by the library of that name, ``.npz`` by numpy without pickles, ``.pth``, ``.pt``
and ``.bin`` by torch where it is installed, and folders that Orbax wrote. No file is trusted, and
none can run code.
"""

import contextlib
import functools
import pathlib
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


def open_weights(path: str | pathlib.Path) -> dict[str, Stored]:
    """Returns the arrays of a file by name; each is read when it is indexed.

    Names lose what torch's wrappers put in front of them. Those of an Orbax checkpoint are paths
    of variables, ``"params/head/kernel"``; what it holds besides variables is left out.

    Args:
      path: of a ``.safetensors``, ``.npz``, ``.pth``, ``.pt`` or ``.bin`` file, or of a folder that
        Orbax wrote: a checkpoint, or many of which the one of the last step is taken.

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
    if path.suffix == ".npz":
        return unwrapped(_open_npz(path))
    if path.name.endswith(SUFFIXES):
        return open_torch(path)
    raise WeightsError(
        f"{path} is none of the files that hold weights: .safetensors, .npz, "
        f"{', '.join(SUFFIXES)}, or a folder that Orbax wrote."
    )


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
    damage = (safetensors.SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, ValueError)
    try:
        yield
    except WeightsError:
        raise
    except (*damage, KeyError, AttributeError, OSError) as error:
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
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                headers = {(1, 0): np.lib.format.read_array_header_1_0}
                header = headers.get(version, np.lib.format.read_array_header_2_0)(file)
            shape, _, dtype = header
            if dtype.hasobject:
                raise WeightsError(
                    f"{path}: {name} is a pickle and not an array, and is not read: it could run "
                    "any code. Save arrays of numbers."
                )
            # numpy has no name for bfloat16, and writes two bytes of nothing in particular.
            dtype = np.dtype(ml_dtypes.bfloat16) if dtype == np.dtype("V2") else dtype
            arrays[name] = Stored(shape, dtype, functools.partial(_read_npz, path, name, dtype))
    return arrays


def _read_npz(
    path: pathlib.Path, name: str, dtype: np.dtype, index: tuple[slice, ...]
) -> np.ndarray:
    with _reading(path), np.load(path, allow_pickle=False) as archive:
        array = archive[name]
    return (array.view(dtype) if array.dtype.kind == "V" else array)[(*index, ...)]
