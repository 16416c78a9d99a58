"""Writes what the authors' code and timm make of checkpoints with the authors' names.

By hand, in two steps, with clones of google-research's ``vision_transformer`` (commit c6de1e5),
``big_vision`` (0127fb6) and ``big_transfer`` (140de6e) in ``FOLDER``:

- ``python make_vision_transformer.py jax FOLDER``, where flax is installed, writes
  ``vision_transformer.npz``: by case, the logits of ``images`` in the authors' code, and names and
  shapes of its parameters, which are those of ``weights``;
- ``python make_vision_transformer.py torch FOLDER``, where timm 1.0.31 and torch are, adds the
  CRC-32 of each array that timm's own reader loads from a ``.npz`` with these arrays, by timm's
  name; what timm makes of positions and patches for a model with other images; and BiT's logits.
  ``big_vision`` has its shapes, but pads the stem's pool as BiT was not trained.
"""

import functools
import json
import pathlib
import re
import runpy
import sys
import tempfile
import types
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent
GOLDEN = FOLDER / "vision_transformer.npz"
MAKE = runpy.run_path(str(FOLDER.parents[1] / "goldens" / "make.py"))

CLASSES = 5
IMAGE = (2, 32, 32, 3)
WIDTH = {"embed_dim": 16, "num_heads": 2, "depth": 2, "img_size": 32, "num_classes": CLASSES}
TANH = {"act_layer": "gelu_tanh"}
LAYERS = {"layers": (2, 1), "channels": (256, 512)}
BIT = {"layers": (2, 1, 1, 1), "channels": (128, 256, 512, 1024), "stem_chs": 32}
MIXER = {"embed_dim": 16, "num_blocks": 2, "img_size": 32, "num_classes": CLASSES}
MODELS = {  # In the zoo.
    "token": ("vit_tiny_patch16_224", {**WIDTH, **TANH}),
    "token_later": ("vit_tiny_patch16_224", {**WIDTH, **TANH}),
    "gap": ("vit_base_patch16_siglip_gap_224", {**WIDTH, **TANH}),
    "map": ("vit_base_patch16_siglip_224", {**WIDTH, **TANH}),
    "hybrid": ("vit_small_r26_s32_224", {**WIDTH, **LAYERS}),
    "stem": ("vit_tiny_r_s16_p8_224", WIDTH),
    "mixer": ("mixer_b16_224", MIXER),
    "bit": ("resnetv2_50x1_bit", {**BIT, "num_classes": CLASSES}),
}
TIMMS = ("token", "gap", "map", "hybrid", "stem", "bit")
"""Those that timm can read."""
ADAPTED = {"img_size": 48, "patch_size": 8, "in_chans": 1, "num_classes": 3}
"""Other options of ``token``."""

PRE_LINEN = (
    ("LayerNorm_1", "LayerNorm_2"),
    ("MultiHeadDotProductAttention_0", "MultiHeadDotProductAttention_1"),
    ("MlpBlock_0", "MlpBlock_3"),
)
RELEASED_BIT = (
    (r"^root_block/conv_root", "root_block/standardized_conv2d"),
    (r"^norm-pre-head/scale", "group_norm/gamma"),
    (r"^norm-pre-head/bias", "group_norm/beta"),
    (r"conv_proj", "a/proj/standardized_conv2d"),
    (r"/conv(\d)/", lambda match: f"/{'abc'[int(match[1]) - 1]}/standardized_conv2d/"),
    (r"gn(\d)/scale", lambda match: f"{'abc'[int(match[1]) - 1]}/group_norm/gamma"),
    (r"gn(\d)/bias", lambda match: f"{'abc'[int(match[1]) - 1]}/group_norm/beta"),
    (r"^head", "head/conv2d"),
    (r"^", "resnet/"),
)
"""Names of ``big_vision``, and those of BiT's release."""


def weights(shapes):
    """Arrays that are a function of name and shape, of a size that keeps signals alive."""
    found = {}
    for name, shape in shapes.items():
        noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        leaf = name.rsplit("/", 1)[-1]
        if leaf == "kernel":
            noise *= 1.0 if len(shape) == 4 and shape[0] != 16 else np.sqrt(2 / len(noise))
        elif leaf in ("scale", "bias"):
            noise = 0.1 * noise + (leaf == "scale")
            # BiT's branches, if as large as their shortcuts, make rounding grow block by block.
            noise *= 0.3 if re.search(r"/unit\d\d/gn3/", name) else 1.0
        found[name] = noise.astype(np.float32)
    return found


def images():
    """A batch."""
    return np.random.default_rng(0).standard_normal(IMAGE).astype(np.float32)


def published(case, arrays):
    """The arrays of a case as they lie in a file that timm reads."""
    found = {}
    for name, array in arrays.items():
        if case == "bit":
            for pattern, replacement in RELEASED_BIT:
                name = re.sub(pattern, replacement, name)
            if name.startswith("resnet/head") and array.ndim == 2:
                array = array[None, None]
            if "group_norm" in name:
                array = array.reshape(-1)
        elif case in ("token", "hybrid", "stem"):
            for linen, before in PRE_LINEN:
                name = name.replace(linen, before)
        else:
            name = f"params/img/{name}"
        found[name] = array
    return found


def authors_models(folder):
    """The authors' models by case, as functions that make one."""
    import flax.linen as nn

    sys.path[:0] = [str(folder / name) for name in ("vision_transformer", "big_vision")]
    for name in ("big_vision.utils", "big_vision.models.common"):  # Only to load files with.
        sys.modules[name] = types.ModuleType(name)
    import big_vision
    from big_vision import models

    big_vision.utils, models.common = (
        sys.modules[name] for name in ("big_vision.utils", "big_vision.models.common")
    )
    from big_vision.models import bit_paper, vit
    from vit_jax import models_mixer, models_vit

    def exact(make):
        # Our hybrids and mixers have the exact GELU alone.
        return lambda: (setattr(nn, "gelu", functools.partial(gelu, approximate=False)), make())[1]

    gelu = nn.gelu
    sizes = {"num_layers": 2, "num_heads": 2, "mlp_dim": 64}

    def with_patches(size, resnet=None):
        return models_vit.VisionTransformer(
            num_classes=CLASSES,
            patches=types.SimpleNamespace(size=(size, size)),
            transformer=sizes,
            hidden_size=16,
            resnet=resnet and types.SimpleNamespace(width_factor=1, **resnet),
        )

    def big(**options):
        return vit._Model(CLASSES, width=16, depth=2, mlp_dim=64, num_heads=2, **options)

    return {
        "token": lambda: with_patches(16),
        "token_later": lambda: big(pool_type="tok"),
        "gap": lambda: big(pool_type="gap"),
        "map": lambda: big(pool_type="map", scan=True),
        "hybrid": exact(lambda: with_patches(1, {"num_layers": (2, 1)})),
        "stem": exact(lambda: with_patches(8, {"num_layers": ()})),
        "mixer": exact(
            lambda: models_mixer.MlpMixer(
                patches=types.SimpleNamespace(size=(16, 16)),
                num_classes=CLASSES,
                num_blocks=2,
                hidden_dim=16,
                tokens_mlp_dim=8,
                channels_mlp_dim=64,
            )
        ),
        "bit": lambda: bit_paper.Model(CLASSES, width=0.5, depth=BIT["layers"]),
    }


def logits(folder):
    """Shapes by case, and logits."""
    import jax
    from flax import traverse_util

    shapes, found = {}, {}
    for case, make in authors_models(folder).items():
        model = make()
        init = functools.partial(model.init, train=False)
        variables = jax.eval_shape(init, jax.random.key(0), images())["params"]
        leaves = traverse_util.flatten_dict(variables, sep="/")
        shapes[case] = {name: leaf.shape for name, leaf in leaves.items()}
        if case == "bit":
            continue
        params = traverse_util.unflatten_dict(weights(shapes[case]), sep="/")
        got = model.apply({"params": params}, images(), train=False)
        found[f"{case}/logits"] = np.asarray(got[0] if isinstance(got, tuple) else got)
        sys.stdout.write(f"{case}\n")
    return shapes, found


def logits_of_bit(folder, shapes):
    """Logits in BiT's release for torch."""
    import torch

    class Half:
        def __rmul__(self, width):
            return width // 2

    module = runpy.run_path(str(folder / "big_transfer" / "bit_pytorch" / "models.py"))
    model = module["ResNetV2"](BIT["layers"], Half(), CLASSES).double()
    model.load_from(published("bit", weights(shapes)))
    with torch.no_grad():
        batch = torch.from_numpy(images().transpose(0, 3, 1, 2)).double()
        return model(batch).numpy().astype(np.float32)


def timms_model(case):
    """A model of timm's of the sizes of a case."""
    import timm
    from timm.models import resnetv2
    from timm.models import vision_transformer_hybrid as hybrid

    name, options = MODELS[case]
    options = {key: value for key, value in options.items() if key != "act_layer"}
    if case == "bit":
        return resnetv2._create_resnetv2_bit(name, **options)
    if case == "hybrid":  # timm's channels are those of the first of four stages.
        backbone = hybrid._resnetv2(options.pop("layers"))
        options.pop("channels")
        return hybrid._create_vision_transformer_hybrid(name, backbone=backbone, **options)
    return timm.create_model(name, **options)


def read_by_timm(shapes):
    """Checksums by case, and the arrays that other images change."""
    import timm
    import torch

    checksums, changed = {}, {}
    for case in TIMMS:
        model = timms_model(case)
        with tempfile.TemporaryDirectory() as folder:
            np.savez(path := f"{folder}/x.npz", **published(case, weights(shapes[case])))
            model.load_pretrained(path)
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        checksums[case] = {n: zlib.crc32(value.numpy().tobytes()) for n, value in state.items()}
        if case == "token":
            name, options = MODELS[case]
            options = {key: value for key, value in options.items() if key != "act_layer"}
            overlay = {"state_dict": state, "input_size": (3, 32, 32), "num_classes": CLASSES}
            target = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, **{**options, **ADAPTED}
            )
            for name, value in target.state_dict().items():
                if not name.startswith("head") and not torch.equal(value, state[name]):
                    changed[f"adapted/{name}"] = value.numpy()
    return checksums, changed


def main():
    """Writes ``vision_transformer.npz``."""
    step, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    if step == "jax":
        shapes, arrays = logits(folder)
        facts = {"shapes": shapes}
    else:
        MAKE["declare_operators"]()
        arrays = dict(np.load(GOLDEN))
        facts = json.loads(arrays.pop("facts").tobytes())
        facts["checksums"], changed = read_by_timm(facts["shapes"])
        arrays |= changed | {"bit/logits": logits_of_bit(folder, facts["shapes"]["bit"])}
        sys.stdout.write(f"{', '.join(arrays)}\n")
    text = np.frombuffer(json.dumps(facts, separators=(",", ":")).encode(), np.uint8)
    np.savez_compressed(GOLDEN, facts=text, **arrays)


if __name__ == "__main__":
    main()
