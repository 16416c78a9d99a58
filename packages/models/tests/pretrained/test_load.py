"""From a source to a model's variables: what it is, where it is put, and what starts fresh."""

import functools
import json
import pathlib
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding
from safetensors.numpy import save_file

import scenax.models
from scenax.common.registry import RegistryError
from scenax.models.pretrained import load
from scenax.models.pretrained.stored import Stored, WeightsError
from scenax.models.pretrained.timm import to_timm

TINY = {"embed_dim": 16, "depth": 2, "num_classes": 5, "img_size": 32}


def make(**options):
    return scenax.models.create_model("test_vit", **{**TINY, **options})


def initial(model, seed=0):
    shape = (1, *model.img_size, model.in_chans)
    return jax.jit(lambda k: model.init(k, jnp.zeros(shape), train=False))(jax.random.key(seed))


@pytest.fixture(scope="module")
def variables():
    return initial(make())


@pytest.fixture(scope="module")
def state(variables):
    return to_timm(variables, make())


@pytest.fixture
def file(state, tmp_path):
    save_file(state, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def assert_same(got, wanted):
    assert jax.tree.structure(got) == jax.tree.structure(dict(wanted))
    jax.tree.map(np.testing.assert_array_equal, got, dict(wanted))


@pytest.mark.parametrize("kind", [str, pathlib.Path, lambda path: f"local-dir:{path}"])
def test_a_file_gives_the_variables(file, variables, kind):
    got = scenax.models.load_pretrained(make(), kind(file))
    assert_same(got, variables)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(got))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened(state, variables, tmp_path, dtype):
    save_file({k: v.astype(dtype) for k, v in state.items()}, tmp_path / "x.safetensors")
    got = scenax.models.load_pretrained(make(), tmp_path / "x.safetensors")
    assert_same(got, jax.tree.map(lambda x: x.astype(dtype).astype(np.float32), dict(variables)))


def test_npz_of_timms_names_and_of_paths(state, variables, tmp_path):
    np.savez(tmp_path / "names.npz", **{f"module.{name}": array for name, array in state.items()})
    assert_same(scenax.models.load_pretrained(make(), tmp_path / "names.npz"), variables)
    paths = {
        "/".join(each.key for each in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables))
    }
    np.savez(tmp_path / "paths.npz", **paths)
    assert_same(scenax.models.load_pretrained(make(), tmp_path / "paths.npz"), variables)


def test_a_folder_of_many_files_with_an_index(state, variables, tmp_path):
    places = {name: f"model-{len(name) % 2}.safetensors" for name in state}
    for file in set(places.values()):
        save_file({n: x for n, x in state.items() if places[n] == file}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert_same(scenax.models.load_pretrained(make(), tmp_path), variables)
    assert_same(scenax.models.load_pretrained(make(), index), variables)


def test_a_training_checkpoint_gives_its_variables_for_other_images_too(variables, tmp_path):
    folder = tmp_path / "checkpoints"
    kept = {"step": 3, "params": variables["params"], "model_state": {}, "opt_state": (1,)}
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with ocp.CheckpointManager(folder, options=options) as manager:
        manager.save(3, args=ocp.args.Composite(state=ocp.args.StandardSave(kept)))
    assert_same(scenax.models.load_pretrained(make(), tmp_path), variables)
    larger = make(img_size=64, num_classes=3)
    got = scenax.models.load_pretrained(larger, tmp_path)["params"]
    assert got["pos_embed"].shape == (1, 17, 16)
    np.testing.assert_array_equal(got["pos_embed"][:, :1], variables["params"]["pos_embed"][:, :1])
    assert got["head"]["kernel"].shape == (16, 3)
    np.testing.assert_array_equal(got["norm"]["scale"], variables["params"]["norm"]["scale"])


@pytest.mark.parametrize("seed", [None, 4])
def test_a_head_of_another_width_starts_as_init_has_it(file, variables, seed):
    model = make(num_classes=7)
    key = None if seed is None else jax.random.key(seed)
    got = scenax.models.load_pretrained(model, file, rng=key)
    fresh = initial(model, seed or 0)["params"]["head"]
    wanted = {"params": {**variables["params"], "head": fresh}}
    assert_same(got, wanted)


def test_a_head_that_the_file_lacks_starts_fresh(state, variables, tmp_path):
    headless = {name: array for name, array in state.items() if not name.startswith("head.")}
    save_file(headless, tmp_path / "x.safetensors")
    got = scenax.models.load_pretrained(make(), tmp_path / "x.safetensors")
    assert_same(got, {"params": {**variables["params"], "head": initial(make())["params"]["head"]}})


@pytest.mark.parametrize("fresh", [["head.*"], ["blocks.1.mlp.fc2.*", "cls_token"]])
def test_what_is_asked_for_starts_fresh(file, variables, fresh):
    key = jax.random.key(5)
    got = scenax.models.load_pretrained(make(), file, rng=key, fresh=fresh)
    chance, paths = make().init(key, jnp.zeros((1, 32, 32, 3)), train=False), []
    for (keys, leaf), stored, made in zip(
        jax.tree_util.tree_leaves_with_path(got),
        jax.tree.leaves(variables),
        jax.tree.leaves(dict(chance)),
        strict=True,
    ):
        path = "/".join(key.key for key in keys)
        is_fresh = any(word in path for word in ("head/", "blocks_1/mlp/fc2", "cls_token"))
        is_fresh &= ("head/" in path) == (fresh == ["head.*"])
        np.testing.assert_allclose(leaf, made if is_fresh else stored, atol=1e-6, err_msg=path)
        paths += [path] if is_fresh else []
    assert len(paths) == (2 if fresh == ["head.*"] else 3)


def test_what_shall_start_fresh_has_to_be_there(file):
    with pytest.raises(ValueError, match=r"fresh: 'haed\.\*' fits no array of the model.*head"):
        scenax.models.load_pretrained(make(), file, fresh=["haed.*"])


def test_what_is_known_of_weights_is_told_without_reading_them(variables, tmp_path):
    model = make()
    assert scenax.models.pretrained_cfg(model)["mean"] == model.default_cfg["mean"]
    tag = scenax.models.pretrained_cfg(make(), "vit_base_patch16_224.augreg_in21k")
    assert (tag["num_classes"], tag["mean"]) == (21843, (0.5, 0.5, 0.5))
    names = [f"class {i}" for i in range(5)]
    scenax.models.save_pretrained(model, variables, tmp_path, label_names=names)
    (tmp_path / "model.safetensors").write_bytes(b"not read")
    cfg = scenax.models.pretrained_cfg(model, tmp_path)
    assert (cfg["label_names"], cfg["num_classes"], cfg["input_size"]) == (names, 5, [3, 32, 32])
    with pytest.raises(ValueError, match="2 label_names for 5 classes"):
        scenax.models.save_pretrained(model, variables, tmp_path, label_names=["a", "b"])


@pytest.mark.parametrize(
    "options", [{"num_classes": 0}, {"features_only": True, "out_indices": (0,)}]
)
def test_what_a_model_without_a_head_lacks_is_left_out(file, variables, options):
    got = scenax.models.load_pretrained(make(**options), file)
    left = {"head"} if "num_classes" in options else {"head", "norm", "blocks_1"}
    wanted = {name: each for name, each in variables["params"].items() if name not in left}
    assert_same(got, {"params": wanted})


def test_hidden_layers_of_a_head_are_left_out_with_it(tmp_path):
    options = {"depths": (1, 1), "dims": (8, 8), "token_mixers": "sep_conv"}
    full = scenax.models.create_model("caformer_s18", num_classes=3, **options)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)

    def shapes(model):
        init = functools.partial(model.init, train=False)
        return dict(jax.eval_shape(init, jax.random.key(0), images))

    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes(full))
    scenax.models.save_pretrained(full, zeros, tmp_path)
    headless = scenax.models.create_model("caformer_s18", num_classes=0, **options)
    got = scenax.models.load_pretrained(headless, tmp_path)
    assert jax.tree.structure(got) == jax.tree.structure(shapes(headless))


def test_everything_that_does_not_fit_is_told_at_once(state, tmp_path):
    wrong = {**state, "extra.weight": np.zeros((2, 3)), "norm.bias": np.zeros(3)}
    del wrong["cls_token"]
    save_file(wrong, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="do not fit this VisionTransformer") as error:
        scenax.models.load_pretrained(make(), tmp_path / "x.safetensors")
    for line in (
        "left over: extra.weight (2, 3), which would be params/extra/kernel",
        "missing: params/cls_token (1, 1, 16)",
        "shape: norm.bias gives params/norm/bias (3,), not (16,)",
    ):
        assert line in str(error.value)


def test_a_head_of_the_right_width_has_to_be_there_if_a_config_says_so(state, tmp_path):
    save_file({k: v for k, v in state.items() if k != "head.bias"}, tmp_path / "model.safetensors")
    config = {"num_classes": 5, "pretrained_cfg": {"classifier": "head"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="missing: params/head/bias"):
        scenax.models.load_pretrained(make(), tmp_path)


@pytest.mark.parametrize("config", ["{", "[1]", '{"pretrained_cfg": 3}'])
def test_a_damaged_config_is_named(state, tmp_path, config):
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(WeightsError, match=r"config.json is no config.json of timm's"):
        scenax.models.load_pretrained(make(), tmp_path)


class Reads:
    """An array that counts which elements were read."""

    def __init__(self, array):
        self.array, self.parts = array, []

    def stored(self):
        def read(index):
            self.parts.append(index)
            return self.array[(*index, ...)]

        return Stored(self.array.shape, self.array.dtype, read)


def test_each_device_reads_its_own_part(state, variables, monkeypatch):
    reads = {name: Reads(array) for name, array in state.items()}
    monkeypatch.setattr(
        load, "open_weights", lambda _: {name: each.stored() for name, each in reads.items()}
    )
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)

    def where(path):
        split = ("a", "b") if path.endswith("qkv/kernel") else ()
        return NamedSharding(mesh, PartitionSpec(*split))

    got = scenax.models.load_pretrained(make(num_classes=6), __file__, sharding=where)
    name, kernel = "blocks.0.attn.qkv.weight", got["params"]["blocks_0"]["attn"]["qkv"]["kernel"]
    assert kernel.sharding.spec == PartitionSpec("a", "b")
    assert kernel.addressable_shards[0].data.shape == (4, 24)
    wanted = variables["params"]["blocks_0"]["attn"]["qkv"]["kernel"]
    np.testing.assert_array_equal(kernel, wanted)
    # torch's rows are our columns.
    assert {
        (rows.stop - rows.start, cols.stop - cols.start) for rows, cols in reads[name].parts
    } == {(24, 4)}
    assert got["params"]["head"]["kernel"].sharding == where("head/kernel")
    assert len(reads["norm.weight"].parts) == 1


def test_one_sharding_holds_for_all(file):
    last = SingleDeviceSharding(jax.devices()[-1])
    got = scenax.models.load_pretrained(make(num_classes=6), file, sharding=last)
    assert {leaf.sharding for leaf in jax.tree.leaves(got)} == {last}


def test_names_go_before_folders_and_files_are_no_tags(state, variables, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(state, "test_vit.safetensors")
    assert_same(scenax.models.load_pretrained(make(), "test_vit.safetensors"), variables)
    (tmp_path / "resnet50t").mkdir()
    save_file(state, tmp_path / "resnet50t" / "some.safetensors")
    for here in ("./resnet50t", pathlib.Path("resnet50t"), "local-dir:resnet50t"):
        assert_same(scenax.models.load_pretrained(make(), here), variables)
    with pytest.raises(RegistryError, match="No weights of resnet50t are published"):
        scenax.models.load_pretrained(make(), "resnet50t")


def test_a_model_of_ones_own(tmp_path):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dense(2, name="fc")(x.mean(axis=(1, 2)))

    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"fc.weight": weight, "fc.bias": np.ones(2)}, path := tmp_path / "x.safetensors")
    got = scenax.models.load_pretrained(Net(), path, input_shape=(4, 4, 3))
    np.testing.assert_array_equal(got["params"]["fc"]["kernel"], weight.T)
    with pytest.raises(ValueError, match=r"This Net does not say .* Pass input_shape"):
        scenax.models.load_pretrained(Net(), path)
    with pytest.raises(ValueError, match=r"This Net has no published weights\. Say a source"):
        scenax.models.load_pretrained(Net(), input_shape=(4, 4, 3))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (
            "test_vit.r160_in2k",
            RegistryError,
            "no weights tagged 'r160_in2k'. Did you mean 'r160_in",
        ),
        ("vit_base_patch16_22", RegistryError, r"no model .* Did you mean 'vit_base_patch16_224"),
        ("resnet50t", RegistryError, "No weights of resnet50t are published"),
        ("there/is/none.safetensors", FileNotFoundError, "no folder and no model 'there/is/none"),
        ("timm/vit_tiny", FileNotFoundError, "A repository of the Hub is 'hf-hub:OWNER/NAME'"),
        (
            "vit_huge_patch16_gap_448.in1k_ijepa",
            WeightsError,
            "not on the Hub: download https://.*tar and load the file",
        ),
    ],
)
def test_sources_that_are_not_there(source, error, message):
    with pytest.raises(error, match=message):
        scenax.models.load_pretrained(make(), source)


def test_memory_stays_near_the_files_size(tmp_path):
    """64 arrays of 2 MB: the variables, one array on its way, and what jax needs."""
    shapes = {f"blocks_{i}.weight": (512, 1024) for i in range(64)}
    zeros = np.ones((512, 1024), np.float32)
    save_file(dict.fromkeys(shapes, zeros), tmp_path / "x.safetensors")
    code = """
    import resource, sys
    import flax.linen as nn, jax, jax.numpy as jnp
    from scenax.models import load_pretrained

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = x.mean(axis=(1, 2))
            for i in range(64):
                x = nn.Dense(512, use_bias=False, name=f"blocks_{i}")(
                    jnp.zeros((1, 1024)) + x.mean()
                )
            return x

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    model, shape = Net(), (2, 2, 3)
    jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False))
    jnp.zeros(3).block_until_ready()
    before = peak()
    variables = load_pretrained(model, sys.argv[1], input_shape=shape)
    print(peak() - before)
    """
    path = str(tmp_path / "x.safetensors")
    run = [sys.executable, "-c", textwrap.dedent(code), path]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1.3 * 64 * zeros.nbytes
