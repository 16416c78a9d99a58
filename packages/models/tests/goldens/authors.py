"""Architectures that timm does not have, from their authors' files, with timm's interface.

For ``make.py``. A family's ``<family>.json`` has an entry ``authors`` then: the repository, its
commit, and the path in it of the file that is imported from where it was checked out.
"""

import importlib.util
import pathlib
import sys
import types
import warnings


def create_model(family: str, release: pathlib.Path, name: str, **options):
    """Returns a model of the authors' that answers timm's calls.

    Args:
      family: the name of our file.
      release: the authors' file.
      name: of the architecture.
      **options: timm's, and fields of our ``Size``.
    """
    return FAMILIES[family](_load(release), name, **options)


def _load(release: pathlib.Path) -> types.ModuleType:

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # They import timm's layers from where they were once.
        spec = importlib.util.spec_from_file_location(f"authors_{release.stem}", release)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        # Their decorator would enter names that are timm's or ours.
        registry = types.ModuleType("timm.models.registry")
        registry.register_model = lambda function: function
        sys.modules["timm.models.registry"] = registry
        spec.loader.exec_module(module)
    return module


def _pvt(module, name, *, img_size=224, in_chans=3, num_classes=1000, **options):
    import torch

    sizes = {
        "pvt_tiny": [2, 2, 2, 2],
        "pvt_small": [3, 4, 6, 3],
        "pvt_medium": [3, 4, 18, 3],
        "pvt_large": [3, 8, 27, 3],
    }
    options = {
        "patch_size": 4,
        "embed_dims": [64, 128, 320, 512],
        "num_heads": [1, 2, 5, 8],
        "mlp_ratios": [8, 8, 4, 4],
        "depths": sizes[name],
        "sr_ratios": [8, 4, 2, 1],
        "qkv_bias": True,
        "norm_layer": lambda width: torch.nn.LayerNorm(width, eps=1e-6),
        **options,
    }

    class Pvt(module.PyramidVisionTransformer):
        feature_info = tuple(
            {"num_chs": width, "reduction": 4 << i, "module": f"block{i + 1}"}
            for i, width in enumerate(options["embed_dims"])
        )
        num_features = head_hidden_size = options["embed_dims"][-1]

        def forward_head(self, x, *, pre_logits):
            assert pre_logits
            return x

        def forward_intermediates(self, images, *, output_fmt):
            assert output_fmt == "NCHW"
            tokens, maps = {}, []
            for i in range(1, 5):
                block = getattr(self, f"block{i}")[-1]
                block.register_forward_hook(lambda _, __, out, i=i: tokens.update({i: out}))
            self.forward_features(images)
            for i in range(1, 5):
                x = tokens[i][:, 1:] if i == 4 else tokens[i]  # Without the class token.
                rows, cols = (side // (2 << i) for side in images.shape[2:])
                maps.append(x.transpose(1, 2).reshape(len(x), -1, rows, cols))
            return None, maps

    return Pvt(img_size=img_size, in_chans=in_chans, num_classes=num_classes, **options)


def _swin_mlp(module, name, *, img_size=None, num_classes=1000, **options):
    large = "base" in name
    heads = {"c24": 4, "c12": 8, "c6": 16}.get(name.split("_")[3], 4)
    options = {
        "embed_dim": 128 if large else 96,
        "depths": [2, 2, 18, 2] if large else [2, 2, 6, 2],
        "num_heads": [heads << i for i in range(4)],
        "window_size": 7 if large else 8,
        **options,
    }
    width = options["embed_dim"]

    class SwinMlp(module.SwinMLP):
        feature_info = tuple(
            {"num_chs": width << i, "reduction": 4 << i, "module": f"layers.{i}"} for i in range(4)
        )

        @property
        def head_hidden_size(self):
            return self.num_features

        def forward_head(self, x, *, pre_logits):
            assert pre_logits
            return x

        def forward_intermediates(self, images, *, output_fmt):
            assert output_fmt == "NCHW"
            maps = {}
            for i, layer in enumerate(self.layers):
                block = layer.blocks[-1]
                block.register_forward_hook(lambda _, __, out, i=i: maps.update({i: out}))
            self.forward_features(images)
            rows, cols = images.shape[2:]
            sides = [(rows // (4 << i), cols // (4 << i)) for i in range(4)]
            return None, [
                maps[i].transpose(1, 2).reshape(len(images), -1, *sides[i]) for i in range(4)
            ]

    img_size = img_size or (224 if large else 256)
    return SwinMlp(img_size=img_size, num_classes=num_classes, **options)


FAMILIES = {"pvt": _pvt, "swin_mlp": _swin_mlp}
