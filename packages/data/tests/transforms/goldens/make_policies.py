"""Writes what others' augmentation policies do, for tests to compare with.

By hand, where the peer is installed; each writes its own entries of ``policies.npz`` and leaves the
others. The image is made by the function here, from a seed, in the tests too.

- ``python make_policies.py torchvision``: with torchvision 0.28 and torch 2.13, the magnitudes of
  TrivialAugmentWide, and its operations on tensors, which do not go through Pillow.
- ``python make_policies.py tpu models/official/efficientnet/autoaugment.py``: with that file of
  github.com/tensorflow/tpu at 7dc921f, AutoAugment's sub-policies and what their magnitudes mean.
  TensorFlow 1, which the file is for, is not needed: only its tables are run.
"""

import ast
import pathlib
import sys
import types

import numpy as np

FILE = pathlib.Path(__file__).parent / "policies.npz"
STRENGTHS = (7, 19, 29)  # At 30 a rotation has many pixels that two others are as near to.


def image():
    """Blocks of one colour on a ramp, uint8 [26 40 3]: compresses well, and has every edge."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:26, :40]
    pixels = np.stack([20 + 5 * x, 240 - 8 * y, 30 + 4 * y + 2 * x], axis=-1)
    for _ in range(12):
        top, left = rng.integers(0, 22), rng.integers(0, 34)
        pixels[top : top + 5, left : left + 7] = rng.integers(10, 246, 3)
    return pixels.astype(np.uint8)


def declare_operators():
    """Lets torchvision's wheel import without CUDA, whose libraries its own operators need."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    declare_operators.library = library  # Declared for as long as it lives.


def torchvision():
    """Magnitudes [31] by operation, and images [strengths signs 26 40 3]."""
    try:
        from torchvision.transforms import v2
    except RuntimeError:
        declare_operators()
        from torchvision.transforms import v2
    import torch

    policy = v2.TrivialAugmentWide()
    tensor = torch.from_numpy(image()).permute(2, 0, 1)
    out = {}
    for name, (magnitudes, signed) in policy._AUGMENTATION_SPACE.items():
        values = magnitudes(31, 26, 40)
        found = []
        for strength in STRENGTHS if values is not None else (0,):
            for sign in (1, -1) if signed else (1,):
                magnitude = 0.0 if values is None else sign * float(values[strength])
                moved = policy._apply_image_or_video_transform(
                    tensor, name, magnitude, policy.interpolation, policy._fill
                )
                found.append(moved.permute(1, 2, 0).numpy())
        out[f"wide_{name}"] = np.stack(found)
        if values is not None:
            out[f"wide_{name}_magnitudes"] = values.numpy().astype(np.float64)
    return out


def tpu(path):
    """Names, probabilities, magnitudes and amounts, each [25 2]."""
    wanted = {"policy_v0", "level_to_arg"}
    tree = ast.parse(pathlib.Path(path).read_text())
    kept = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and (node.name in wanted or node.name.endswith("_level_to_arg"))
    ]
    scope = {"_MAX_LEVEL": 10.0, "_randomly_negate_tensor": lambda value: value}
    exec(compile(ast.Module(kept, []), path, "exec"), scope)
    # As distort_image_with_autoaugment has them.
    constants = types.SimpleNamespace(cutout_const=100, translate_const=250)
    amounts = scope["level_to_arg"](constants)
    policy = scope["policy_v0"]()
    first = [[(amounts[name](level) or (0.0,))[0] for name, _, level in two] for two in policy]
    return {
        "v0_names": np.array([[name for name, _, _ in two] for two in policy]),
        "v0_probabilities": np.array([[p for _, p, _ in two] for two in policy]),
        "v0_magnitudes": np.array([[level for _, _, level in two] for two in policy]),
        "v0_amounts": np.array(first, np.float64),
    }


PEERS = {"torchvision": torchvision, "tpu": tpu}

if __name__ == "__main__":
    arrays = dict(np.load(FILE)) if FILE.exists() else {}
    arrays |= PEERS[sys.argv[1]](*sys.argv[2:])
    np.savez_compressed(FILE, **{key: arrays[key] for key in sorted(arrays)})
