"""Records of TFRecord files by index, without TensorFlow.

A TFRecord file is a sequence of records: the length as 8 little-endian bytes, 4 of its checksum,
the data, and 4 of their checksum (https://www.tensorflow.org/tutorials/load_data/tfrecord). Whoever
hops from length to length once knows where each record begins; from then on any of them is one
read. The places are kept beside the file where that can be written, and in memory anyway.
"""

import contextlib
import functools
import io
import os
import pathlib
import tempfile
import threading
from collections.abc import Sequence

import numpy as np

from scenax.data.reports import UnreadableError

_HEADER, _FOOTER = 12, 4
_PLACES = ".record_offsets.npy"
# A dataset may have more files than a process may have open.
_OPEN_FILES = 64


class RecordFile:
    """One file's records by index; may be read by many threads."""

    def __init__(self, path: pathlib.Path, *, count: int | None = None) -> None:
        """``count`` is how many records there should be, if that is known."""
        self.path = path
        self._count = count
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found()) - 1 if self._count is None else self._count

    def __getitem__(self, index: int, /) -> bytes:
        """Returns a record's data.

        Raises:
          IndexError: if there are not that many.
          UnreadableError: if the file is no TFRecord file, is cut off, has another number of
            records than it should, or is being changed.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} records, asked for {index}.")
        start, end = map(int, self._found()[index : index + 2])
        record = _pread(self, end - start, start)
        length = int.from_bytes(record[:8], "little")
        if len(record) != end - start or length != end - start - _HEADER - _FOOTER:
            raise UnreadableError(
                f"{self.path} has changed since it was opened: there is no record {index} at byte "
                f"{start} any more. Start again; if that does not help, delete {self.path.name}"
                f"{_PLACES} beside it."
            )
        return record[_HEADER:-_FOOTER]

    def _found(self) -> np.ndarray:
        with self._lock:
            return self._offsets

    @functools.cached_property
    def _offsets(self) -> np.ndarray:
        """Where each record begins, and where the last one ends."""
        status = os.stat(self.path)
        beside = self.path.with_name(self.path.name + _PLACES)
        offsets = _kept(beside, status)
        if offsets is None:
            offsets = self._scan(status.st_size)
            with contextlib.suppress(OSError):  # A read-only copy is scanned by every process.
                _keep(offsets, beside, status)
        if self._count is not None and len(offsets) - 1 != self._count:
            raise UnreadableError(
                f"{self.path} has {len(offsets) - 1} records and should have {self._count}. "
                "Prepare the dataset again."
            )
        return offsets

    def _scan(self, size: int) -> np.ndarray:
        offsets = [0]
        while offsets[-1] < size:
            length = int.from_bytes(_pread(self, 8, offsets[-1]), "little")
            offsets.append(offsets[-1] + _HEADER + length + _FOOTER)
        if offsets[-1] > size:
            raise UnreadableError(
                f"{self.path} is cut off in record {len(offsets) - 2}, or is no TFRecord file: its "
                f"records would reach to byte {offsets[-1]} of {size}."
            )
        return np.array(offsets, np.int64)


class _Open(io.FileIO):
    """A file that is open for as long as someone holds it."""

    def __del__(self) -> None:
        self.close()


@functools.lru_cache(maxsize=_OPEN_FILES)
def _opened(file: RecordFile) -> _Open:
    return _Open(file.path)


def _pread(file: RecordFile, count: int, start: int) -> bytes:
    opened = _opened(file)  # Another thread may make the cache forget it meanwhile.
    return os.pread(opened.fileno(), count, start)


def _kept(beside: pathlib.Path, status: os.stat_result) -> np.ndarray | None:
    """The offsets beside a file, if they are of this very file; whatever else is there is not."""
    try:
        with beside.open("rb") as file:
            kept = np.load(file, allow_pickle=False)
    except Exception:  # Not there, or damaged, in one of many ways.
        return None
    if not isinstance(kept, np.ndarray) or kept.dtype != np.int64 or kept.ndim != 1:
        return None
    modified, offsets = kept[:1], kept[1:]
    ends = [status.st_mtime_ns, 0, status.st_size]
    sound = len(offsets) and [*modified, offsets[0], offsets[-1]] == ends
    return offsets if sound and (np.diff(offsets) >= _HEADER + _FOOTER).all() else None


def _keep(offsets: np.ndarray, beside: pathlib.Path, status: os.stat_result) -> None:
    with tempfile.NamedTemporaryFile(dir=beside.parent, delete=False, prefix=".offsets") as file:
        try:
            np.save(file, np.insert(offsets, 0, status.st_mtime_ns))
        except OSError:
            os.unlink(file.name)
            raise
    os.chmod(file.name, 0o644)
    os.replace(file.name, beside)


class Records:
    """The records of several files as one sequence, or a part of each."""

    def __init__(self, files: Sequence[RecordFile], parts: Sequence[range] | None = None) -> None:
        """``parts`` are the records of each file that belong to it; all if not given."""
        self._files = files
        self._parts = [range(len(file)) for file in files] if parts is None else parts
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int, /) -> bytes:
        index = range(len(self))[index]
        which = int(np.searchsorted(self._ends, index, side="right"))
        part = self._parts[which]
        return self._files[which][part[index - int(self._ends[which])]]
