"""Files that TensorFlow wrote, read back without it."""

import errno
import os
import pathlib
import shutil
import subprocess
import sys
import threading
from concurrent import futures

import numpy as np
import pytest

from scenax.data.reports import UnreadableError
from scenax.data.sources import tfrecord
from scenax.data.sources.tfrecord import RecordFile, Records

RNG = np.random.default_rng(0)
RECORDS = {
    "few": [b"one", b"two", b"three"],
    "none": [],
    "empty": [b"", b"a", b"", b"", b"bc", b""],
    "big": [b"a", RNG.bytes(20_000_000), b"b"],
    "many": [RNG.bytes(int(size)) for size in RNG.integers(0, 300, 500)],
    # Contents that look like the beginning of a record.
    "nested": [(5).to_bytes(8, "little") * n for n in range(5)],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with the files, written by TensorFlow."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("records")
    for name, records in RECORDS.items():
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for record in records:
                writer.write(record)
    return folder


@pytest.fixture
def copied(written, tmp_path):
    """Returns a copy of one of the files, without what was kept beside it."""

    def copy(name, to=None):
        return pathlib.Path(shutil.copy(written / name, tmp_path / (to or name)))

    return copy


def beside(path):
    return path.with_name(path.name + ".record_offsets.npy")


def scanned(path, **options):
    """A file's records, and whether they were looked for."""
    file = RecordFile(path, **options)
    scans = []
    scan = file._scan
    file._scan = lambda size: scans.append(size) or scan(size)
    return [file[index] for index in range(len(file))], bool(scans)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("known", [False, True])
def test_records_are_read_at_random(copied, name, known):
    records = RECORDS[name]
    file = RecordFile(copied(name), count=len(records) if known else None)
    assert len(file) == len(records)
    for index in RNG.permutation(len(records)).tolist():
        assert file[index] == records[index]
    for index in (-1, len(records)):
        with pytest.raises(IndexError, match=f"has {len(records)} records, asked for {index}"):
            file[index]


def test_offsets_are_kept_beside_the_file_and_used_again(copied):
    path = copied("many")
    assert scanned(path) == (RECORDS["many"], True)
    assert [each.name for each in sorted(path.parent.iterdir())] == [path.name, beside(path).name]
    assert beside(path).stat().st_mode & 0o044 == 0o044  # Others may have the same data.
    assert scanned(path) == (RECORDS["many"], False)


def test_offsets_of_another_file_are_not_used(copied):
    path = copied("few")
    scanned(path)
    old = path.stat()
    # Of the same size, and even older: a copy of another version may keep its date.
    path.write_bytes(other := _records(b"two", b"three", b"one"))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns - 10**9))
    assert len(other) == old.st_size
    assert scanned(path) == ([b"two", b"three", b"one"], True)
    assert scanned(path) == ([b"two", b"three", b"one"], False)
    # Of another size at the same time.
    path.write_bytes(_records(b"two"))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns - 10**9))
    assert scanned(path) == ([b"two"], True)


def _records(*contents):
    """Records without right checksums, which are not read."""
    return b"".join(
        len(each).to_bytes(8, "little") + bytes(4) + each + bytes(4) for each in contents
    )


def _damaged(kept):
    whole = kept.read_bytes()
    yield b""
    yield whole[:40]
    yield whole[:-8]
    yield b"PK\x03\x04 not an archive"
    offsets = np.load(kept)
    yield from (offsets[1:], offsets[:-1], np.append(offsets, 9), offsets.astype(float))
    for place in range(len(offsets)):
        yield np.concatenate(
            [offsets[:place], offsets[place : place + 1] + 1, offsets[place + 1 :]]
        )
    yield offsets[None]
    yield np.zeros(0, np.int64)
    yield offsets.astype(object)


def test_damaged_offsets_are_found_anew(copied):
    path = copied("few")
    scanned(path)
    for damage in list(_damaged(beside(path))):
        if isinstance(damage, bytes):
            beside(path).write_bytes(damage)
        else:
            np.save(beside(path), damage, allow_pickle=True)
        records = RecordFile(path)
        try:
            found = [records[index] for index in range(len(records))]
        except UnreadableError as error:  # Offsets that are possible, but are not those.
            assert f"delete {beside(path).name}" in str(error)
        else:
            assert found == RECORDS["few"]
            assert scanned(path)[1] is False  # They were put right.


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_read(copied, number, monkeypatch):
    path = copied("few")

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    full = number == errno.ENOSPC  # Noticed only when there is a file already.
    monkeypatch.setattr(
        *((np, "save") if full else (tfrecord.tempfile, "NamedTemporaryFile")), fail
    )
    for _ in range(2):
        assert scanned(path) == (RECORDS["few"], True)
    assert [each.name for each in path.parent.iterdir()] == ["few"]


def test_a_folder_without_the_right_to_write_is_read(copied):
    path = copied("few")
    path.parent.chmod(0o555)
    try:
        assert scanned(path)[0] == RECORDS["few"]
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_is_cut_off_says_where(copied, known):
    whole = copied("few").read_bytes()
    ends = np.cumsum([16 + len(record) for record in RECORDS["few"]]).tolist()
    for cut in range(1, len(whole)):
        path = copied("few", f"cut_{cut}")
        path.write_bytes(whole[:cut])
        file = RecordFile(path, count=3 if known else None)
        if cut in ends and not known:
            assert len(file) == ends.index(cut) + 1
            continue
        record = sum(end <= cut for end in ends)
        message = (
            f"{path.name} has {record} records and should have 3"
            if cut in ends
            else (
                rf"{path.name} is cut off in record {record}, or is no TFRecord file: .* of {cut}\."
            )
        )
        with pytest.raises(UnreadableError, match=message):
            file[0]
        assert not beside(path).exists() or cut in ends


@pytest.mark.parametrize(
    "content", [b"<html>404 Not Found</html>", b"\x89PNG\r\n\x1a\n" * 40, b"\xff" * 64, b"x"]
)
def test_what_is_no_tfrecord_file_is_named(tmp_path, content):
    path = tmp_path / "garbage"
    path.write_bytes(content)
    for file in (RecordFile(path), RecordFile(path, count=2)):
        with pytest.raises(UnreadableError, match="garbage is cut off in record 0, or is no TFRec"):
            file[0]
    # Zeros are empty records by their lengths, but hardly as many as there should be.
    path.write_bytes(bytes(1600))
    with pytest.raises(UnreadableError, match=r"100 records and should have 2\. Prepare"):
        RecordFile(path, count=2)[0]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        RecordFile(tmp_path / "absent", count=1)[0]


@pytest.mark.parametrize("count", [0, 2, 4, 500])
def test_another_number_of_records_is_an_error(copied, count):
    file = RecordFile(copied("few"), count=count)
    assert len(file) == count
    if count:
        with pytest.raises(UnreadableError, match=f"few has 3 records and should have {count}"):
            file[0]


def test_a_file_that_changes_while_it_is_read_is_noticed(copied):
    path = copied("few")
    file = RecordFile(path)
    assert file[1] == b"two"
    path.write_bytes(_records(b"", b"a longer one than before"))
    with pytest.raises(
        UnreadableError, match=r"few has changed .* no record 1 at byte 19 any more"
    ):
        file[1]
    path.write_bytes(b"")
    with pytest.raises(UnreadableError, match="few has changed"):
        file[0]


def test_records_of_several_files_are_one_sequence(copied):
    names = ["few", "none", "empty", "many"]
    together = [record for name in names for record in RECORDS[name]]
    sequence = Records([RecordFile(copied(name)) for name in names])
    assert len(sequence) == len(together)
    assert [sequence[index] for index in range(len(together))] == together
    assert [sequence[index] for index in (-1, -len(together))] == [together[-1], together[0]]
    for index in (len(together), -len(together) - 1):
        with pytest.raises(IndexError):
            sequence[index]


def test_parts_of_files_are_one_sequence(copied):
    names = ["few", "many", "empty", "few"]
    parts = [range(1, 3), range(0), range(2, 5), range(2, 3)]
    files = [RecordFile(copied(n, f"{i}"), count=len(RECORDS[n])) for i, n in enumerate(names)]
    expected = [RECORDS[n][i] for n, part in zip(names, parts, strict=True) for i in part]
    sequence = Records(files, parts)
    assert [sequence[index] for index in range(len(sequence))] == expected
    assert len(Records([], [])) == 0
    with pytest.raises(IndexError):
        Records([], [])[0]


@pytest.mark.parametrize("known", [False, True])
def test_many_threads_read_what_is_there(copied, known):
    path, records = copied("many"), RECORDS["many"]
    start = threading.Barrier(8)
    shared = RecordFile(path, count=500 if known else None)
    own = [RecordFile(path, count=500 if known else None) for _ in range(4)]

    def read(thread):
        # Half of them share a file, and the others, as processes do, what is kept beside it.
        file = shared if thread % 2 else own[thread // 2]
        order = np.random.default_rng(thread).permutation(len(records)).tolist()
        start.wait()
        assert len(file) == 500
        return all(file[index] == records[index] for index in order)

    with futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, beside(path).name]


def test_a_dataset_may_have_more_files_than_can_be_open(tmp_path):
    for number in range(300):
        (tmp_path / f"{number:03}").write_bytes(_records(b"a", str(number).encode()))
    program = (
        "import pathlib, resource, sys, threading\n"
        "from scenax.data.sources.tfrecord import RecordFile, Records\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))\n"
        "paths = sorted(p for p in pathlib.Path(sys.argv[1]).iterdir() if p.suffix == '')\n"
        "records = Records([RecordFile(path, count=2) for path in paths])\n"
        "found = [[] for _ in range(4)]\n"
        "def read(mine):\n"
        "    for _ in range(2): mine += [records[2 * i + 1] for i in range(300)]\n"
        "threads = [threading.Thread(target=read, args=(mine,)) for mine in found]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(all(mine == 2 * [str(i).encode() for i in range(300)] for mine in found))\n"
    )
    run = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n", done.stderr
