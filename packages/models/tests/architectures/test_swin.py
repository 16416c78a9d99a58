import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures.swin import PatchMerging

NAME = "swin_tiny_patch4_window7_224"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": (64, 30)}, r"sides divide by 4, got 64x30. Resize or pad"),
        ({"window_size": (7, 7)}, r"one entry for each stage, got .* and \(7, 7\)"),
        ({"embed_dim": 100}, r"3 heads cannot share stage 0's 100 channels"),
        ({"global_pool": "token"}, r"global_pool has to be one of .* got 'token'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model(NAME, **options)


def test_another_image_size_is_refused():
    model = scenax.models.create_model(NAME, img_size=64)
    with pytest.raises(ValueError, match=r"made for images of 64x64x3, got 32x32x3"):
        model.apply({}, jnp.zeros((1, 32, 32, 3)), train=False)


def test_merging_takes_neighbours_column_by_column_and_pads_odd_sides():
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    params = {
        "norm": {"scale": jnp.ones(4), "bias": jnp.zeros(4)},
        "reduction": {"kernel": jnp.eye(4, 2)},
    }
    got = PatchMerging(jnp.float32).apply({"params": params}, x)
    four = np.array([[1, 4, 2, 5], [3, 6, 0, 0], [7, 0, 8, 0], [9, 0, 0, 0]], np.float32)
    normed = (four - four.mean(1, keepdims=True)) / np.sqrt(four.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(got.reshape(4, 2), normed[:, :2], atol=1e-5)
