import collections
import json
import pickle
import subprocess
import sys
import threading
import time
from concurrent import futures

import numpy as np
import pytest
from PIL import Image

from scenax.data import caching
from scenax.data.caching import DiskCache, Mapped, MemoryCache, cached
from scenax.data.examples import ArraySource
from scenax.data.reports import UnreadableError
from scenax.data.sources.image_folder import ImageFolder
from scenax.data.transforms.image import DecodeImage


class Counting:
    """A source of these examples that counts how often each was read."""

    def __init__(self, examples):
        self.examples = examples
        self.reads = collections.Counter()

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index, /):
        self.reads[index] += 1
        if isinstance(self.examples[index], Exception):
            raise self.examples[index]
        return self.examples[index]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SCENAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def images(count=5, seed=0):
    rng = np.random.default_rng(seed)
    return [{"image": rng.bytes(20), "label": np.int32(i)} for i in range(count)]


def doubled(example, rng):
    return {"inputs": 2.0 * np.frombuffer(example["image"], np.uint8)}


def same(found, expected):
    """Whether two values are of one kind, and equal."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, list | tuple):
        kinds = type(found) is type(expected) and len(found) == len(expected)
        return kinds and all(map(same, found, expected))
    if isinstance(expected, np.ndarray):
        kinds = (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if expected.dtype == object:
            return kinds and all(map(same, found.ravel(), expected.ravel()))
        return kinds and found.tobytes() == expected.tobytes()
    return type(found) is type(expected) and (found == expected or found != found)


def objects(*values):
    array = np.empty(len(values), object)
    for place, value in enumerate(values):
        array[place] = value
    return array


EXAMPLES = [
    {"image": b"\xff\xd8 a \x00\x00", "label": np.int32(3), "name": "é 🐈\n.jpg"},
    {"image": b"", "name": "", "area": np.float32(np.nan), "whole": 3, "share": 0.1, "none": None},
    {"inputs": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "crowd": np.array([True, False])},
    {"inputs": np.asfortranarray(np.random.default_rng(0).normal(size=(4, 5))), "flag": True},
    {"boxes": np.zeros((0, 4), np.float32), "label": np.array(7), "is": np.bool_(1), "x": -0.0},
    # Encoded frames can end in zeros, be of one length or of several.
    {"frames": [b"a\0", b"bc", b""], "sizes": (1, 2), "empty": []},
    {
        "frames": objects(b"a\0", b"bcd"),
        "words": objects("a", "bc"),
        "ragged": objects([1], [2, 3]),
    },
    {
        "inputs": {
            "rgb": np.ones((2, 2), np.uint8),
            "sound": {"waveform": np.float64([0.5, np.inf])},
        }
    },
    {},
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: "-".join(example) or "empty")
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_what_was_kept_is_what_was_read(example, kind):
    source = cached(Counting([example]), None, kind, "numbers")
    for _ in range(3):
        assert same(source[0], example)


def test_what_disks_cannot_hold_is_an_error_that_leaves_nothing(tmp_path):
    source = DiskCache(Counting([{"image": {1, 2}}]), tmp_path)
    with pytest.raises(TypeError, match=r"holds arrays, bytes, text and numbers, got \{1, 2\}"):
        source[0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_every_example_is_read_once(kind, tmp_path):
    source = Counting(images(40))
    kept = MemoryCache(source) if kind == "memory" else DiskCache(source, tmp_path / "cache")
    assert len(kept) == 40
    for index in [3, 3, *range(40), *reversed(range(40))]:
        assert same(kept[index], source.examples[index])
    assert source.reads == dict.fromkeys(range(40), 1)


@pytest.mark.parametrize("kind", [None, "memory", "disk", "decoded_memory", "decoded_disk"])
def test_examples_are_decoded_each_time_or_once(kind):
    decodings = collections.Counter()

    def decode(example, rng):
        decodings[int(example["label"])] += 1
        return doubled(example, rng) | {"label": example["label"]}

    source = Counting(images())
    kept = cached(source, decode, kind, "numbers")
    first = source.reads.copy()  # The first and the last may stand for the data.
    for _ in range(3):
        for index in range(5):
            expected = decode(source.examples[index], None)
            decodings[index] -= 1
            assert same(kept[index], expected)
    decoded_once = kind is not None and kind.startswith("decoded")
    assert set(decodings.values()) == {1 if decoded_once else 3}
    assert {source.reads[i] - first[i] for i in range(5)} == {1 if kind else 3}


def test_the_disk_survives_the_process_and_the_memory_does_not(root):
    program = (
        "import sys, numpy as np\n"
        "from scenax.data import caching\n"
        "class Source:\n"
        "    def __len__(self): return 3\n"
        "    def __getitem__(self, index):\n"
        "        print('read', index)\n"
        "        return {'inputs': {'a': np.arange(index + 2)}, 'frames': [b'x'] * index}\n"
        "source = caching.cached(Source(), None, sys.argv[1], 'numbers')\n"
        "print('opened')\n"
        "print(sum(int(source[i]['inputs']['a'].sum()) for i in range(3)))\n"
    )

    def read(kind):
        run = [sys.executable, "-c", program, kind]
        out = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
        return out[out.index("opened") + 1 :]

    assert read("disk") == ["read 0", "read 1", "read 2", "10"]
    assert read("disk") == ["10"]
    assert len(list(root.iterdir())) == 1


def folder_of(source, decode=None, kind="disk", name="numbers"):
    kept = cached(source, decode, kind, name)
    return (kept._source if isinstance(kept, Mapped) else kept)._folder


def test_other_data_and_other_decoding_have_other_folders(root):
    plain = Counting(images())
    first, last, shorter = (Counting(images()) for _ in range(3))
    first.examples[0] = images(seed=1)[0]
    last.examples[-1] = last.examples[-1] | {"label": np.int32(99)}
    shorter.examples.pop(2)
    typed = Counting([e | {"label": e["label"].astype(np.int64)} for e in images()])
    nested = Counting([{"a": example} for example in images()])
    # What a source says of all its examples counts, if it says anything.
    printed = Counting(images())
    printed.fingerprint = lambda indices: f"other labels of {list(indices)}"
    folders = [
        *(folder_of(s) for s in (plain, first, last, shorter, typed, nested, printed)),
        folder_of(plain, name="others"),
        folder_of(plain, doubled, "decoded_disk"),
        folder_of(plain, lambda example, rng: example, "decoded_disk"),
    ]
    assert len(set(folders)) == len(folders)
    assert all(folder.parent == root for folder in folders)
    # The same data, opened anew, have the same; however they are decoded afterwards.
    assert folder_of(Counting(images())) == folders[0]
    assert folder_of(Counting(images()), doubled) == folders[0]
    assert folder_of(plain, name="a/b").parent == root


def test_a_folder_is_found_where_the_first_example_cannot_be_read():
    broken = [UnreadableError("1.jpg is empty"), *images()]
    folders = {
        folder_of(Counting(broken)),
        folder_of(Counting(broken)),
        folder_of(Counting(images())),
    }
    assert len(folders) == 2
    kept = cached(Counting(broken), None, "disk", "numbers")
    for _ in range(2):  # That it failed is not kept.
        with pytest.raises(UnreadableError, match=r"1\.jpg is empty"):
            kept[0]
    assert same(kept[1], images()[0])


def test_without_the_variable_caches_are_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SCENAX_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caching.cache_root() == tmp_path / ".cache" / "scenax"


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_file_that_was_not_finished_is_not_there(tmp_path, monkeypatch):
    source = Counting(images())
    kept = DiskCache(source, tmp_path / "cache")
    savez = np.savez

    def full(file, **arrays):
        savez(file, **arrays)
        file.truncate(50)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        kept[2]
    monkeypatch.undo()
    assert files(tmp_path / "cache") == []
    assert same(kept[2], source.examples[2])
    assert same(kept[2], source.examples[2])
    assert source.reads[2] == 2
    assert [path.name for path in files(tmp_path / "cache")] == ["2.npz"]


def test_damaged_files_are_read_from_the_source_and_written_anew(tmp_path):
    example = {"image": b"abcdefgh", "label": np.int32(3), "name": "cat"}
    source = Counting([example])
    kept = DiskCache(source, tmp_path)
    kept[0]
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    damages = [b"", b"text", whole[:-1], whole[: len(whole) // 2], whole + b"\0" * 70_000]
    for place in range(len(whole)):
        damages.append(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    again = 0
    for damaged in damages:
        path.write_bytes(damaged)
        before = source.reads[0]
        assert same(kept[0], example)
        assert same(kept[0], example)
        # Where it was read again it was kept again.
        assert source.reads[0] - before in (0, 1)
        again += source.reads[0] - before
        if source.reads[0] > before:
            assert same(DiskCache(Counting([]), tmp_path)[0], example)
    assert again > len(damages) / 2
    assert files(tmp_path) == [path]


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_a_file_is_ever_run(tmp_path):
    example = images(1)[0]
    kept = DiskCache(Counting([example]), tmp_path / "cache")
    kept[0]
    (path,) = files(tmp_path / "cache")
    sprung = tmp_path / "sprung"
    trap = np.empty(1, object)
    trap[0] = Trap(str(sprung))
    tree = np.frombuffer(json.dumps(["mapping", [["a", ["array", 0]]]]).encode(), np.uint8)
    np.savez(path, tree=tree, leaf_0=trap)
    assert same(kept[0], example)
    with np.load(path, allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored.files)  # It is replaced.
    path.write_bytes(pickle.dumps(Trap(str(sprung))))
    assert same(kept[0], example)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(str(sprung)))).close()
    assert sprung.exists()  # The trap would have worked.


@pytest.mark.parametrize("kind", ["decoded_memory", "decoded_disk"])
def test_decoded_examples_need_a_decoder(kind):
    advice = rf"numbers is decoded at random places.*cache='{kind.removeprefix('decoded_')}'"
    with pytest.raises(ValueError, match=advice):
        cached(Counting(images()), None, kind, "numbers")


@pytest.mark.parametrize("kind", ["", "ram", "Memory", "decoded"])
def test_unknown_caches_are_named(kind):
    names = "memory, disk, decoded_memory, decoded_disk"
    with pytest.raises(ValueError, match=f"cache must be one of {names}, got '{kind}'"):
        # As outside of tests, where no types are checked.
        cached.__wrapped__(Counting(images()), doubled, kind, "numbers")


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_many_threads_at_once_read_the_same(kind, tmp_path):
    class Slow(Counting):
        def __getitem__(self, index, /):
            time.sleep(0.0005)
            return super().__getitem__(index)

    source = Slow([{"inputs": np.full(2000, i)} for i in range(20)])
    kept = MemoryCache(source) if kind == "memory" else DiskCache(source, tmp_path)
    start = threading.Barrier(8)

    def read(thread):
        start.wait()
        return [same(kept[i], source.examples[i]) for i in range(20) for _ in range(2)]

    with futures.ThreadPoolExecutor(8) as pool:
        assert all(all(found) for found in pool.map(read, range(8)))
    before = source.reads.total()
    assert before <= 8 * 20  # Not once more in any thread after its own first time.
    assert all(same(kept[i], source.examples[i]) for i in range(20))
    assert source.reads.total() == before
    if kind == "disk":
        assert len(files(tmp_path)) == 20


def test_a_mapped_source_is_as_long_and_transforms_each_time():
    mapped = Mapped(ArraySource({"x": np.arange(3)}), lambda example, rng: {"y": example["x"] + 1})
    assert len(mapped) == 3
    assert [int(mapped[i]["y"]) for i in (0, 2)] == [1, 3]


@pytest.mark.parametrize("cache", ["disk", "decoded_disk"])
def test_a_folder_of_images_whose_labels_change_is_read_anew(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("SCENAX_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("a/1.png", "b/2.png", "b/3.png", "c/4.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2), (int(name[2]), 0, 0)).save(tmp_path / "photos" / name)

    def labels():
        kept = cached(ImageFolder(tmp_path / "photos"), DecodeImage(), cache, "photos")
        return [int(kept[index]["label"]) for index in range(len(kept))]

    assert labels() == labels() == [0, 1, 1, 2]
    (tmp_path / "photos/b/3.png").rename(tmp_path / "photos/a/3.png")
    assert labels() == [0, 0, 1, 2]
