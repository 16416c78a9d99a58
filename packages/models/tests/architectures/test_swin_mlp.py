"""What is Swin-MLP's own; what it computes is compared with the authors' in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import swin_mlp

NAME = "swin_mlp_tiny_c24_patch4_window8_256"


def test_every_head_has_a_matrix_of_its_own():
    count, heads, width = 4, 2, 6
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (3, count, heads * width))
    kernel = jax.random.normal(keys[1], (1, count, heads * count))
    bias = jax.random.normal(keys[2], (heads * count,))
    layer = swin_mlp.SpatialMlp(heads, jnp.float32)
    got = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    for head in range(heads):
        chans, outputs = (slice(head * n, (head + 1) * n) for n in (width, count))
        wanted = [np.asarray(kernel[0, :, outputs]).T @ one for one in np.asarray(x[:, :, chans])]
        wanted += np.asarray(bias[outputs])[None, :, None]
        np.testing.assert_allclose(got[:, :, chans], wanted, rtol=1e-4, atol=1e-5)


def test_shifted_windows_see_nothing_of_the_maps_other_end():
    block = swin_mlp.Block(1, 4, 2, 1.0, 0.0, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 8))
    variables = block.init(jax.random.key(1), x, False)
    changed = block.apply(variables, x.at[0, -1, -1, 0].add(1.0), False)
    seen = np.abs(changed - block.apply(variables, x, False)).max(axis=(0, 3)) > 1e-4
    wanted = np.zeros((8, 8), bool)
    wanted[6:, 6:] = True  # Swin's would see the three other corners too.
    np.testing.assert_array_equal(seen, wanted)


def test_one_window_is_not_shifted():
    size = swin_mlp.Size(8, (2,), (1,), 4, 1.0)
    stage = swin_mlp.Stage(size, 0, (0.0, 0.0), False, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 8))
    variables = stage.init(jax.random.key(1), x, False, False)
    changed, _ = stage.apply(variables, x.at[0, -1, -1, 0].add(1.0), False, False)
    before, _ = stage.apply(variables, x, False, False)
    assert np.all(np.abs(changed - before).max(axis=(0, 3)) > 1e-4)


def test_spatial_layers_start_as_the_authors():
    layer = swin_mlp.SpatialMlp(4, jnp.float32)
    params = layer.init(jax.random.key(0), jnp.zeros((1, 64, 8)))["params"]
    np.testing.assert_allclose(params["kernel"].std(), 0.02, rtol=0.05)
    assert not params["bias"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": (256, 100)}, r"sides divide by 32, got 256x100. Resize or pad"),
        ({"img_size": 224}, r"Windows of 8 do not divide the map of 28x28 that stage 1 has"),
        ({"depths": (2, 2)}, r"depths and num_heads need one entry for each stage, got \(2, 2\)"),
        ({"embed_dim": 98}, r"4 heads cannot share stage 0's 98 channels"),
        ({"global_pool": "token"}, r"global_pool has to be one of .* got 'token'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model(NAME, **options)
