"""What is DINOv2's own; what it computes is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import dinov2


def test_a_gated_mlp_by_hand():
    mlp = dinov2.SwiGlu(6, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 2, 4))
    variables = mlp.init(jax.random.key(1), x)
    params = jax.device_get(variables["params"])
    hidden = np.asarray(x) @ params["fc1"]["kernel"] + params["fc1"]["bias"]
    gate, y = hidden[..., :3], hidden[..., 3:]
    wanted = (gate / (1 + np.exp(-gate)) * y) @ params["fc2"]["kernel"] + params["fc2"]["bias"]
    np.testing.assert_allclose(mlp.apply(variables, x), wanted, atol=1e-6)


def test_default_weights_have_no_head_and_518_pixels():
    model = scenax.models.create_model("vit_small_patch14_dinov2")
    assert (model.num_classes, model.img_size) == (0, (518, 518))
    assert scenax.models.create_model("vit_small_patch14_dinov2", num_classes=3).num_classes == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": 224 + 1}, r"DINOv2/14 needs an image whose sides divide by 14, got 225x225"),
        ({"global_pool": "map"}, r"global_pool has to be one of .*'token'.* got 'map'"),
        ({"num_heads": 7}, r"multiple of num_heads, got 384 and 7"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("vit_small_patch14_dinov2", **options)
