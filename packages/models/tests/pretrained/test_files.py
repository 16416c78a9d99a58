"""Files of every kind, whole and damaged, and those that are made to run code."""

import importlib.util
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from scenax.models.pretrained import torch as torch_files
from scenax.models.pretrained.files import open_weights
from scenax.models.pretrained.stored import Stored, WeightsError

RNG = np.random.default_rng(0)
KINDS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def array(kind, *shape):
    return np.asarray(10 * RNG.normal(size=shape)).astype(kind)


def safetensors_bytes(arrays):
    """As the format's description has it: length of the header, header, arrays one by one."""
    names = {np.dtype(kind): name for name, kind in KINDS.items()}
    header, body = {}, b""
    for name, each in arrays.items():
        end = len(body) + each.nbytes
        header[name] = {
            "dtype": names[each.dtype],
            "shape": each.shape,
            "data_offsets": [len(body), end],
        }
        body += each.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize("kind", KINDS)
def test_safetensors_of_every_type(kind, tmp_path):
    wanted = {"a.weight": array(KINDS[kind], 4, 3, 2), "b": array(KINDS[kind], 5)}
    wanted["c"] = array(KINDS[kind])
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes(wanted))
    got = open_weights(path)
    assert list(got) == list(wanted)
    for name, each in wanted.items():
        assert (got[name].shape, got[name].dtype) == (each.shape, each.dtype)
        assert np.asarray(got[name]).tobytes() == each.tobytes()
    part = got["a.weight"][slice(1, 3), slice(None), slice(1, 2)]
    np.testing.assert_array_equal(part, wanted["a.weight"][1:3, :, 1:2])


def test_npz_of_every_type_compressed_or_not(tmp_path):
    wanted = {name: array(kind, 4, 3) for name, kind in KINDS.items()} | {"0-d": array(np.float32)}
    for number, save in enumerate((np.savez, np.savez_compressed)):
        save(path := tmp_path / f"{number}.npz", **wanted)
        got = open_weights(path)
        assert list(got) == list(wanted)
        for name, each in wanted.items():
            assert (got[name].shape, got[name].dtype) == (each.shape, each.dtype)
            assert np.asarray(got[name]).tobytes() == each.tobytes()
        np.testing.assert_array_equal(got["BF16"][slice(1, 3), slice(2)], wanted["BF16"][1:3, :2])


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_arrays_are_read_when_they_are_asked_for(suffix, tmp_path):
    path = tmp_path / f"x.{suffix}"
    arrays = {"a": array(np.float32, 8)}
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(safetensors_bytes(arrays))
    got = open_weights(path)
    path.unlink()
    with pytest.raises(WeightsError, match=f"x.{suffix} cannot be read as .{suffix}"):
        np.asarray(got["a"])


def test_axes_in_another_order():
    x = array(np.float32, 5, 4, 3, 2)
    stored = Stored.of(x).transpose((2, 3, 1, 0))
    assert stored.shape == (3, 2, 4, 5)
    np.testing.assert_array_equal(np.asarray(stored), x.transpose(2, 3, 1, 0))
    part = stored[slice(1, 3), slice(None), slice(2, 3), slice(0, 4)]
    np.testing.assert_array_equal(part, x.transpose(2, 3, 1, 0)[1:3, :, 2:3, :4])
    computed = Stored.computed((5, 4, 3, 2), np.float32, lambda: x).transpose((3, 0, 1, 2))
    np.testing.assert_array_equal(np.asarray(computed), x.transpose(3, 0, 1, 2))


def sharded(folder, **files):
    """As transformers writes a large model."""
    for name, arrays in files.items():
        (folder / f"{name}.safetensors").write_bytes(safetensors_bytes(arrays))
    places = {n: f"{name}.safetensors" for name, arrays in files.items() for n in arrays}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def test_an_index_leads_to_arrays_in_many_files(tmp_path):
    wanted = {"module.a": array(np.float32, 4), "b": array(np.float32, 3)}
    path = sharded(tmp_path, one={"module.a": wanted["module.a"]}, two={"b": wanted["b"]})
    got = open_weights(path)
    assert list(got) == ["a", "b"]
    np.testing.assert_array_equal(np.asarray(got["a"]), wanted["module.a"])
    np.testing.assert_array_equal(got["b"][slice(1, 3),], wanted["b"][1:])


@pytest.mark.parametrize(
    "file",
    ["../x.safetensors", "/x.safetensors", "y/../../x.safetensors", "..\\x.safetensors", "..", ""],
)
def test_an_index_leads_to_no_other_folder(file, tmp_path):
    folder = tmp_path / "y"
    folder.mkdir()
    sharded(tmp_path, x={"a": array(np.float32, 4)})
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(WeightsError, match=r"index.json names files that are not in its own fold"):
        open_weights(path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "get it again"),
        ("[]", "get it again"),
        ('{"weight_map": ["a"]}', "get it again"),
        ('{"weight_map": {"a": 3}}', "get it again"),
        ('{"weight_map": {"a": "none.safetensors"}}', "none.safetensors cannot be read"),
        ('{"weight_map": {"c": "x.safetensors"}}', "index.json cannot be read as .json: 'c'"),
    ],
)
def test_a_damaged_index_is_named(index, message, tmp_path):
    path = sharded(tmp_path, x={"a": array(np.float32, 4)})
    path.write_text(index)
    with pytest.raises(WeightsError, match=message):
        open_weights(path)


def test_of_an_npz_only_a_part_is_read_if_that_can_be(tmp_path):
    rows, columns = np.zeros((64, 300, 100), np.float32), np.zeros((30, 2), order="F")
    for each in (rows, columns):
        each[3:5] = RNG.normal(size=each[3:5].shape)
    halves = rows.astype(ml_dtypes.bfloat16)
    np.savez(path := tmp_path / "x.npz", rows=rows, columns=columns, halves=halves)
    got = open_weights(path)
    tracemalloc.start()
    part = got["rows"][slice(3, 5), slice(1, 7), slice(None)]
    half = got["halves"][slice(3, 5), slice(1, 7), slice(None)]
    assert tracemalloc.get_traced_memory()[1] < rows.nbytes / 8
    tracemalloc.stop()
    assert type(part) is np.ndarray
    np.testing.assert_array_equal(part, rows[3:5, 1:7])
    np.testing.assert_array_equal(half, halves[3:5, 1:7])
    np.testing.assert_array_equal(got["columns"][slice(3, 5), slice(None)], columns[3:5])


def damaged(whole):
    middle = len(whole) // 2
    return {
        "empty": b"",
        "cut off": whole[:-9],
        "half": whole[:middle],
        "text": b"<html>404 Not Found</html>",
    }


@pytest.mark.parametrize("how", damaged(b""))
@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth", ".bin"])
def test_damaged_files_are_named(how, suffix, tmp_path):
    arrays = {"a": array(np.float32, 8), "b": array(np.float32, 3)}
    np.savez(whole := io.BytesIO(), **arrays)
    whole = safetensors_bytes(arrays) if suffix == ".safetensors" else whole.getvalue()
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(damaged(whole)[how])
    with pytest.raises(WeightsError) as error:
        open_weights(path)
    assert str(path) in str(error.value)
    if suffix in (".safetensors", ".npz"):
        assert "get it again" in str(error.value)


def test_damage_in_an_array_shows_when_it_is_read(tmp_path):
    np.savez(path := tmp_path / "x.npz", a=np.zeros(1000, np.float32))
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    got = open_weights(path)
    with pytest.raises(WeightsError, match=r"x.npz cannot be read as .npz: Bad CRC-32"):
        np.asarray(got["a"])


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def torch_zip(content):
    """The layout of ``torch.save``: an archive with the pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3")
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".pth.tar", ".npz"])
@pytest.mark.parametrize("layout", [bytes, torch_zip])
def test_no_files_code_is_run(suffix, layout, tmp_path):
    sprung = tmp_path / "sprung"
    path = tmp_path / f"trap{suffix}"
    path.write_bytes(layout(pickle.dumps({"state_dict": {"a": Trap(sprung)}}, protocol=2)))
    with pytest.raises(WeightsError) as error:
        open_weights(path)
    assert not sprung.exists()
    assert str(path) in str(error.value)
    if suffix != ".npz" and importlib.util.find_spec("torch") is None:
        assert "which is not installed" in str(error.value)
        assert "weights_only=True" in str(error.value)
        assert "safetensors" in str(error.value)
    pickle.loads(path.read_bytes() if layout is bytes else b"N.")  # The trap is one.
    assert sprung.exists() is (layout is bytes)


def test_no_pickle_in_an_npz_is_read(tmp_path):
    sprung = tmp_path / "sprung"
    trap = np.empty(1, object)
    trap[0] = Trap(sprung)
    np.savez(path := tmp_path / "trap.npz", fine=np.zeros(3), trap=trap)
    with pytest.raises(WeightsError, match=r"trap.npz: trap is a pickle and not an array"):
        open_weights(path)
    assert not sprung.exists()


A, B = np.zeros(2), np.ones(3)


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"a": A, "b.c": B},
        {"state_dict": {"module.a": A, "module.b.c": B}, "epoch": 3, "args": None},
        {"model": {"_orig_mod.a": A, "_orig_mod.b.c": B}},
        {"model": {"_orig_mod.module.a": A, "module._orig_mod.b.c": B}},
        {"state_dict": {"model": {"a": A, "b.c": B}}},
        {"state_dict": {"a": B, "b.c": A}, "state_dict_ema": {"a": A, "b.c": B}},
        {"model": {"a": B}, "model_ema": {"module.a": A, "b.c": B}},
        {"state_dict_ema": None, "model_ema": None, "state_dict": {"a": A, "b.c": B}},
        {"encoder": {"module.a": A, "module.b.c": B}, "opt": {}},
        {"a": A, "b.c": B, "meta": {"x": 1}, "epoch": 3},
    ],
)
def test_weights_are_found_where_timm_looks_for_them(checkpoint):
    got = torch_files.state_dict_of(checkpoint)
    assert {name: id(each) for name, each in got.items()} == {"a": id(A), "b.c": id(B)}


@pytest.mark.parametrize("checkpoint", [{"epoch": 3}, [A], {"model": {}}])
def test_checkpoints_without_arrays_are_told_so(checkpoint):
    with pytest.raises(WeightsError, match="no arrays by name in it, but"):
        torch_files.state_dict_of(checkpoint)


def test_names_of_npz_and_safetensors_lose_wrappers_too(tmp_path):
    np.savez(tmp_path / "x.npz", **{"module.a": A, "b.module.c": B})
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes({"module.a": A, "b.module.c": B}))
    for name in ("x.npz", "x.safetensors"):
        assert set(open_weights(tmp_path / name)) == {"a", "b.module.c"}


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"x.ckpt is none of the files that hold weights"):
        open_weights(tmp_path / "x.ckpt")
    with pytest.raises(FileNotFoundError, match="no file or folder of weights"):
        open_weights(tmp_path / "y.safetensors")
    with pytest.raises(WeightsError, match="is no checkpoint of Orbax, and holds none"):
        open_weights(tmp_path)


def checkpoint_of(params):
    """What ``scenax.train`` saves of a state."""
    return {
        "step": jnp.int32(7),
        "params": params,
        "opt_state": ({"mu": params}, None),
        "model_state": {"batch_stats": {"bn": {"mean": jnp.arange(3.0)}}},
        "rng": jnp.zeros(2, jnp.uint32),
    }


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with ocp.CheckpointManager(folder, options=options) as manager:
        for step in (9, 10):
            kernel = step * jnp.ones((4, 3)) + jnp.arange(3.0).reshape(1, 3)
            arrays = checkpoint_of({"head": {"kernel": kernel, "bias": jnp.bfloat16(2.5)}})
            items = {"state": ocp.args.StandardSave(arrays), "meta": ocp.args.JsonSave({})}
            manager.save(step, args=ocp.args.Composite(**items))
    return folder


@pytest.mark.parametrize("inner", ["..", ".", "10", "10/state"])
def test_orbax_checkpoints_give_the_last_steps_variables(run_folder, inner):
    got = open_weights(run_folder / inner)
    assert set(got) == {"params/head/kernel", "params/head/bias", "batch_stats/bn/mean"}
    kernel = got["params/head/kernel"]
    assert (kernel.shape, kernel.dtype) == ((4, 3), np.float32)
    np.testing.assert_array_equal(np.asarray(kernel), np.tile([10.0, 11.0, 12.0], (4, 1)))
    np.testing.assert_array_equal(kernel[slice(1, 3), slice(1, 2)], [[11.0], [11.0]])
    np.testing.assert_array_equal(np.asarray(got["batch_stats/bn/mean"]), [0.0, 1.0, 2.0])
    assert np.asarray(got["params/head/bias"]) == 2.5


@pytest.mark.parametrize("averaged", [False, True])
def test_of_a_run_with_a_moving_average_it_is_this(tmp_path, averaged):
    average = {"params": {"w": jnp.full(2, 5.0)}, "batch_stats": {"mean": jnp.full(2, 6.0)}}
    arrays = checkpoint_of({"w": jnp.ones(2)}) | {"ema": average if averaged else None}
    arrays["model_state"] = {"batch_stats": {"mean": jnp.zeros(2)}}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "tree", arrays)
    stored = open_weights(tmp_path / "tree")
    got = {path: np.asarray(array).tolist() for path, array in stored.items()}
    wanted = ([5.0, 5.0], [6.0, 6.0]) if averaged else ([1.0, 1.0], [0.0, 0.0])
    assert got == dict(zip(("params/w", "batch_stats/mean"), wanted, strict=True))


def test_damaged_orbax_checkpoints_are_named(run_folder, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "_METADATA").write_text("{")
    with pytest.raises(WeightsError, match="tree cannot be read as Orbax's"):
        open_weights(tree)
