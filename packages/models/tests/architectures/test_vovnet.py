"""What is VoVNet's own; what it computes is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import vovnet


@pytest.mark.parametrize("side", [3, 4, 5, 8, 9])
def test_pools_overhang_the_border_and_see_what_is_there(side):
    x = -1.0 - np.random.default_rng(0).random((1, side, side, 1), np.float32)  # Below any padding.
    got = vovnet._pool(jnp.asarray(x))[0, :, :, 0]
    count = -(-(side - 3) // 2) + 1  # torch's formula with ceil_mode
    wanted = [
        [x[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in range(count)]
        for i in range(count)
    ]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("width", "taps"), [(256, 5), (512, 5), (1024, 5), (64, 3)])
def test_the_reach_of_eca_is_the_papers(width, taps):
    # 1910.03151, equation 12, with gamma 2 and b 1: the nearest odd number.
    module, maps = vovnet.Eca(jnp.float32), jnp.zeros((1, 2, 2, width))
    shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), maps)
    assert shapes["params"]["conv"]["kernel"].shape == (taps, 1, 1)


def test_an_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="attn has to be 'ese', 'eca' or '', got 'se'"):
        scenax.models.create_model("ese_vovnet39b", attn="se")
