"""What is RegNet's own; what it computes is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import regnet


@pytest.mark.parametrize(
    ("name", "widths", "depths"),
    [  # As printed in the configurations of the paper's authors, pycls' model zoo.
        ("regnetx_002", [24, 56, 152, 368], [1, 1, 4, 7]),
        ("regnetx_032", [96, 192, 432, 1008], [2, 6, 15, 2]),
        ("regnety_080", [168, 448, 896, 2016], [2, 4, 10, 1]),
        ("regnety_160", [224, 448, 1232, 3024], [2, 4, 11, 1]),
    ],
)
def test_four_numbers_make_the_papers_stages(name, widths, depths):
    size = regnet.VARIANTS[name]
    assert size.stages == list(zip(widths, depths, strict=True))
    assert all(width % size.groups(width) == 0 for width in widths)


def test_a_new_block_adds_nothing():
    size = scenax.models.create_model("regnety_002").size
    block = regnet.Block(size, 24, 1, 0.0, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 24))
    y, _ = block.init_with_output(jax.random.key(1), x, False)
    np.testing.assert_array_equal(y, jax.nn.relu(x))


def test_feature_maps_need_fewer_parameters():
    model = scenax.models.create_model("regnetx_002", features_only=True, out_indices=(0, 2))
    images = jnp.zeros((1, 64, 64, 3))
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    assert set(shapes["params"]) == {"stem", "s1", "s2"}
    assert [level["reduction"] for level in model.feature_info] == [2, 8]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"one of .*'catavgmax'.*got 'token'"):
        scenax.models.create_model("regnetx_002", global_pool="token")
    model = scenax.models.create_model("regnetx_002")
    with pytest.raises(ValueError, match=r"images of 3 channels, got 1.*in_chans=1"):
        model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False)
