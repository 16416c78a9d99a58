"""Keeping what was read once: in memory or on disk, as it is stored or decoded."""

import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from scenax.data.examples import Example, Source, Transform
from scenax.data.reports import UnreadableError

Cache = Literal["memory", "disk", "decoded_memory", "decoded_disk"]
"""``memory`` and ``disk`` keep examples as they are stored, ``decoded_*`` as arrays."""


class Mapped:
    """A source whose examples went through a transform that draws nothing."""

    def __init__(self, source: Source, transform: Transform) -> None:
        self._source = source
        self._transform = transform
        self._generator = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int, /) -> Example:
        return self._transform(self._source[index], self._generator)


class MemoryCache:
    """A source whose examples stay in memory once they were read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._examples: dict[int, Example] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int, /) -> Example:
        # Two threads may both read an example for the first time: either result is right.
        if index not in self._examples:
            self._examples[index] = self._source[index]
        return self._examples[index]


class DiskCache:
    """A source whose examples stay in a folder once they were read, one file each.

    The folder belongs to the source's name and size; who changes the data empties it. A file is
    written whole or not at all, and holds arrays, bytes, text and numbers, never code. One that is
    damaged is as good as none: the example is read from the source, and kept anew.
    """

    def __init__(self, source: Source, folder: pathlib.Path) -> None:
        """``folder`` is made when the first example is kept."""
        self._source = source
        self._folder = folder

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int, /) -> Example:
        path = self._folder / f"{index // 1000}" / f"{index}.npz"
        if path.exists():
            try:
                return _read(path)
            except Exception:  # Damaged files fail in many ways, and the source has it all.
                pass
        example = self._source[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, example)
        return example


def cached(source: Source, decode: Transform | None, cache: Cache | None, name: str) -> Source:
    """Returns the decoded examples of a source, kept as ``cache`` says, on disk under ``name``.

    Raises:
      ValueError: if ``cache`` is unknown, or decoded examples shall be kept and there is no
        ``decode``.
    """
    if cache is not None and cache not in get_args(Cache):
        raise ValueError(f"cache must be one of {', '.join(get_args(Cache))}, got {cache!r}.")
    if cache and cache.startswith("decoded") and decode is None:
        raise ValueError(
            f"{name} is decoded at random places, so decoded examples cannot be kept. Use "
            f"cache={cache.removeprefix('decoded_')!r}, which keeps them as they are stored."
        )
    kept = source
    if cache == "memory":
        kept = MemoryCache(source)
    elif cache == "disk":
        kept = DiskCache(source, _folder(source, name, "stored"))
    decoded = kept if decode is None else Mapped(kept, decode)
    if cache == "decoded_memory":
        return MemoryCache(decoded)
    if cache == "decoded_disk":
        return DiskCache(decoded, _folder(source, name, f"decoded by {decode!r}"))
    return decoded


def cache_root() -> pathlib.Path:
    """Returns the folder of all disk caches: ``$SCENAX_CACHE_DIR``, or ``~/.cache/scenax``."""
    return pathlib.Path(os.environ.get("SCENAX_CACHE_DIR", "~/.cache/scenax")).expanduser()


def _folder(source: Source, name: str, how: str) -> pathlib.Path:
    """A folder for what is kept of a source: its own for other data and other decoding.

    The first example, the last, and the source's ``fingerprint`` if it has one stand for the data:
    other data of one size and name, in another place, hardly have them in common.
    """
    digest = hashlib.sha256(f"{len(source)} {how}".encode())
    if fingerprint := getattr(source, "fingerprint", None):
        digest.update(fingerprint(range(len(source))).encode())
    for index in (0, len(source) - 1):
        try:
            example = source[index]
        except UnreadableError as error:
            example = {"name": str(error)}
        leaves: list[np.ndarray] = []
        digest.update(json.dumps(_packed(example, leaves)).encode())
        for leaf in leaves:
            digest.update(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes())
    return cache_root() / f"{name.replace('/', '_')}-{digest.hexdigest()[:16]}"


def _write(path: pathlib.Path, example: Example) -> None:
    leaves: list[np.ndarray] = []
    tree = json.dumps(_packed(example, leaves)).encode()
    stored: dict[str, Any] = {f"leaf_{number}": leaf for number, leaf in enumerate(leaves)}
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False, suffix=".tmp") as file:
        try:
            np.savez(file, tree=np.frombuffer(tree, np.uint8), **stored)
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, path)


def _read(path: pathlib.Path) -> Example:
    # numpy itself would leave a damaged file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return _unpacked(json.loads(stored["tree"].tobytes()), stored)


def _packed(value: Any, leaves: list[np.ndarray]) -> list[Any]:
    """A value as plain data: its kind, and its parts or the number of the leaf that it becomes."""
    if isinstance(value, Mapping):
        return ["mapping", [[key, _packed(item, leaves)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_packed(item, leaves) for item in value]]
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return ["objects", [_packed(item, leaves) for item in value.flat], value.shape]
    if isinstance(value, str):
        return ["plain", str(value)]
    if isinstance(value, bytes):
        leaves.append(np.frombuffer(value, np.uint8))
        return ["bytes", len(leaves) - 1]
    if isinstance(value, np.ndarray | np.generic):
        leaves.append(np.asarray(value))
        return ["array" if isinstance(value, np.ndarray) else "scalar", len(leaves) - 1]
    if value is None or isinstance(value, bool | int | float):
        return ["plain", value]
    raise TypeError(f"What is kept on disk holds arrays, bytes, text and numbers, got {value!r}.")


def _unpacked(tree: list[Any], leaves: Mapping[str, np.ndarray]) -> Any:
    kind, content, *shape = tree
    if kind == "plain":
        return content
    if kind == "mapping":
        return {key: _unpacked(item, leaves) for key, item in content}
    if kind in ("bytes", "array", "scalar"):
        leaf = leaves[f"leaf_{content}"]
        return leaf.tobytes() if kind == "bytes" else leaf if kind == "array" else leaf[()]
    items = [_unpacked(item, leaves) for item in content]
    if kind != "objects":
        return tuple(items) if kind == "tuple" else items
    objects = np.empty(len(items), object)
    for place, item in enumerate(items):
        objects[place] = item
    return objects.reshape(shape[0])
