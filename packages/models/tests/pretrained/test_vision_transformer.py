"""Checkpoints with the authors' names, against the authors' code and timm's reader."""

import functools
import json
import pathlib
import re
import runpy
import zlib

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import scenax.models
from scenax.models.pretrained import vision_transformer
from scenax.models.pretrained.stored import Stored, WeightsError
from scenax.models.pretrained.timm import to_timm

GOLDENS = pathlib.Path(__file__).parent / "goldens"
MAKE = runpy.run_path(str(GOLDENS / "make_vision_transformer.py"))
ARRAYS = np.load(GOLDENS / "vision_transformer.npz")
FACTS = json.loads(ARRAYS["facts"].tobytes())


def make(case, **other):
    name, options = MAKE["MODELS"][case]
    return scenax.models.create_model(name, **{**options, **other})


def authors(case):
    """Arrays as the authors' code of today has them."""
    return dict(_authors(case))


@functools.cache
def _authors(case):
    return MAKE["weights"]({name: tuple(shape) for name, shape in FACTS["shapes"][case].items()})


def published(case):
    """Arrays as they were published, and as timm reads them."""
    return MAKE["published"](case, authors(case))


def load(model, arrays, folder):
    np.savez(folder / "x.npz", **arrays)
    return scenax.models.load_pretrained(model, folder / "x.npz")


def checksums(case, arrays, folder):
    state = to_timm(load(make(case), arrays, folder), make(case))
    return {name: zlib.crc32(array.tobytes()) for name, array in state.items()}


def behind(prefix, arrays):
    return {prefix + name: array for name, array in arrays.items()}


def renamed(arrays, pattern, replacement):
    return {re.sub(pattern, replacement, name): array for name, array in arrays.items()}


@pytest.mark.parametrize("case", MAKE["MODELS"])
def test_logits_are_those_of_the_authors_code(case, tmp_path):
    model = make(case)
    variables = load(model, authors(case), tmp_path)
    got = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, MAKE["images"]())
    wanted = ARRAYS[f"{case}/logits"]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * wanted.std())


@pytest.mark.parametrize("case", MAKE["TIMMS"])
def test_arrays_are_those_that_timm_reads(case, tmp_path):
    assert checksums(case, published(case), tmp_path) == FACTS["checksums"][case]


TEXT = {"params/txt/Encoder_0/encoder_norm/scale": np.zeros(3), "params/t": np.zeros(1)}
TEXT |= {"params/txt/head/bias": np.zeros(3), "params/b": np.zeros(1)}
STATE = {"opt/state/step": np.zeros(()), "opt/state/param_states/cls/grad_ema": np.zeros(3)}


def stacked(arrays):
    """As ``nn.scan`` has the blocks' arrays."""
    found, blocks = {}, r"^Transformer/encoderblock_(\d+)/"
    for name, array in arrays.items():
        if re.match(blocks, name):
            found.setdefault(re.sub(blocks, "Transformer/encoderblock/", name), []).append(array)
        else:
            found[name] = array
    return {name: np.stack(x) if isinstance(x, list) else x for name, x in found.items()}


def unstacked(arrays):
    found, blocks = {}, "Transformer/encoderblock/"
    for name, array in arrays.items():
        for i in range(2 if blocks in name else 1):
            one = name.replace(blocks, f"Transformer/encoderblock_{i}/")
            found[one] = array[i] if blocks in name else array
    return found


def with_positions_in(parent, arrays):
    return renamed(arrays, r"^(Transformer/posembed_input/)?pos_emb", f"{parent}pos_emb")


def of_norms(change, arrays):
    return {n: change(x) if "/gn" in n or "norm-" in n else x for n, x in arrays.items()}


LAYOUTS = {
    "Linen": ("token", authors),
    "an optimizer's": ("token", lambda case: behind("opt/target/", published(case)) | STATE),
    "LiT's": ("token", lambda case: behind("img/", authors(case)) | renamed(TEXT, "params/", "")),
    "SigLIP's": ("map", lambda case: published(case) | TEXT),
    "parameters'": ("gap", lambda case: behind("params/", authors(case))),
    "positions in the encoder": (
        "token",
        lambda case: with_positions_in("Transformer/", authors(case)),
    ),
    "positions outside": ("token", lambda case: with_positions_in("", authors(case))),
    "positions in a module": (
        "gap",
        lambda case: with_positions_in("Transformer/posembed_input/", authors(case)),
    ),
    "blocks stacked": ("token", lambda case: stacked(authors(case))),
    "blocks one by one": ("map", lambda case: unstacked(published(case))),
    "values in front of keys": ("map", lambda case: dict(reversed(published(case).items()))),
    "norms of [1, 1, 1, c]": (
        "hybrid",
        lambda case: of_norms(lambda x: x.reshape(1, 1, 1, -1), published(case)),
    ),
    "a stem's norm of [1, 1, 1, c]": (
        "stem",
        lambda case: of_norms(lambda x: x.reshape(1, 1, 1, -1), authors(case)),
    ),
    "big_vision's BiT": ("bit", authors),
    "big_vision's BiT, norms of [c]": ("bit", lambda case: of_norms(np.ravel, authors(case))),
    "BiT with layers numbered": (
        "bit",
        lambda case: renamed(
            published(case), r"/b/standardized_conv2d/", "/b/standardized_conv2d_7/"
        ),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_of_the_same_arrays(layout, tmp_path):
    case, made = LAYOUTS[layout]
    assert checksums(case, made(case), tmp_path) == FACTS["checksums"][case]


def test_names_decide_and_not_the_kind_of_file(tmp_path):
    save_file(published("token"), tmp_path / "x.safetensors")
    got = to_timm(
        scenax.models.load_pretrained(make("token"), tmp_path / "x.safetensors"), make("token")
    )
    assert zlib.crc32(got["pos_embed"].tobytes()) == FACTS["checksums"]["token"]["pos_embed"]


def test_a_mixer_of_before_linen(tmp_path):
    before = renamed(authors("mixer"), "LayerNorm_1", "LayerNorm_2")
    wanted = load(make("mixer"), authors("mixer"), tmp_path)
    got = load(make("mixer"), behind("opt/target/", before), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def test_other_images_and_classes_change_what_timm_changes(tmp_path):
    other = MAKE["ADAPTED"]
    model = make("token", **other)
    got = to_timm(load(model, published("token"), tmp_path), model)
    for name, wanted in FACTS["checksums"]["token"].items():
        if f"adapted/{name}" in ARRAYS:
            np.testing.assert_allclose(got[name], ARRAYS[f"adapted/{name}"], rtol=0, atol=1e-5)
        elif name.startswith("head."):
            assert got[name].shape[0] == other["num_classes"]
        else:
            assert zlib.crc32(got[name].tobytes()) == wanted
    assert not got["head.bias"].any()
    assert got["head.weight"].any()


@pytest.mark.parametrize("case", ["gap", "hybrid", "mixer", "bit"])
def test_one_channel_and_no_head(case, tmp_path):
    model = make(case, in_chans=1, num_classes=0)
    got = to_timm(load(model, published(case), tmp_path), model)
    full = to_timm(load(make(case), published(case), tmp_path), make(case))
    assert set(got) == {name for name in full if not name.startswith("head.")}
    first = f"{model.default_cfg['first_conv']}.weight"
    wanted = full.pop(first).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got.pop(first), wanted, rtol=1e-5, atol=1e-6)
    for name in got:
        np.testing.assert_array_equal(got[name], full[name])


def test_a_head_of_zeros_is_a_head_and_none_starts_fresh(tmp_path):
    arrays = authors("gap")
    zero = {n: np.zeros_like(x) if n.startswith("head/") else x for n, x in arrays.items()}
    got = load(make("gap"), zero, tmp_path)
    assert not any(leaf.any() for leaf in jax.tree.leaves(got["params"]["head"]))
    headless = {n: x for n, x in arrays.items() if not n.startswith("head/")}
    got = load(make("gap"), headless, tmp_path)
    assert got["params"]["head"]["kernel"].any()


def test_a_head_behind_another_layer_is_not_kept(tmp_path):
    """As in the first release for ImageNet-21k: ``tanh(pre_logits(x))`` goes into the head."""
    arrays = published("token")
    whole = load(make("token"), arrays, tmp_path)
    arrays |= {"pre_logits/kernel": np.eye(16, dtype="f4"), "pre_logits/bias": np.zeros(16, "f4")}
    with pytest.raises(ValueError, match=r"layer pre_logits in front of their head.*fresh="):
        load(make("token"), arrays, tmp_path)
    features = load(make("token", num_classes=0), arrays, tmp_path)
    for name, leaf in features["params"].items():
        jax.tree.map(np.testing.assert_array_equal, leaf, whole["params"][name])
    fresh = scenax.models.load_pretrained(make("token"), tmp_path / "x.npz", fresh=["head.*"])
    assert set(fresh["params"]) == set(whole["params"])


def test_what_does_not_fit_is_named(tmp_path):
    arrays = published("token")
    del arrays["Transformer/encoderblock_1/LayerNorm_2/bias"]
    del arrays["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/key/kernel"]
    arrays["Transformer/encoderblock_2/LayerNorm_0/scale"] = np.ones(16)
    arrays["Transformer/encoderblock_0/Dense_7/kernel"] = np.ones((2, 3))
    with pytest.raises(ValueError, match="do not fit this VisionTransformer") as error:
        load(make("token"), arrays, tmp_path)
    for line in (
        "left over: blocks.0.Dense_7.weight (3, 2)",
        "left over: blocks.2.norm1.weight (16,)",
        "missing: params/blocks_1/norm2/bias (16,)",
        "shape: blocks.0.attn.qkv.weight gives params/blocks_0/attn/qkv/kernel (16, 32), not",
    ):
        assert line in str(error.value)


def test_another_models_checkpoint_is_told_so(tmp_path):
    with pytest.raises(ValueError, match=r"left over: attn_pool\.latent .*"):
        load(make("gap"), authors("map"), tmp_path)
    with pytest.raises(ValueError, match="do not fit this ResNetV2"):
        load(make("bit"), authors("token"), tmp_path)


def test_an_unknown_layout_and_a_damaged_file_are_told(tmp_path):
    with pytest.raises(ValueError, match="left over: encoder/"):
        load(make("token"), behind("encoder/", authors("token")), tmp_path)
    path = tmp_path / "x.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"x.npz cannot be read as .npz"):
        scenax.models.load_pretrained(make("token"), path)


def test_of_a_stack_only_the_block_is_read():
    stack, parts = np.arange(24, dtype=np.float32).reshape(3, 8), []

    def read(index):
        parts.append(index)
        return stack[index]

    name = "params/Transformer/encoderblock/LayerNorm_0/scale"
    stored = {name: Stored(stack.shape, stack.dtype, read)}
    got = vision_transformer.state_dict(stored, "params/", "head")
    assert list(got) == [f"blocks.{i}.norm1.weight" for i in range(3)]
    assert not parts
    np.testing.assert_array_equal(got["blocks.1.norm1.weight"][slice(2, 4),], stack[1, 2:4])
    assert parts == [(slice(1, 2), slice(2, 4))]
