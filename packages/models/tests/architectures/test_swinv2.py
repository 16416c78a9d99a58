"""What is Swin V2's own; what it computes is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import swinv2

NAME = "swinv2_tiny_window8_256"


def attention_and_parameters():
    attention = swinv2.Attention(2, (2, 3), 0, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 6, 8))
    return attention, x, attention.init(jax.random.key(1), x, None)["params"]


def test_scales_of_cosines_are_learned_up_to_100():
    attention, x, params = attention_and_parameters()
    params["qkv"]["kernel"] = jax.random.normal(jax.random.key(2), (8, 24))

    def output(scale):
        logs = jnp.full((2, 1, 1), np.log(scale), jnp.float32)
        return attention.apply({"params": {**params, "logit_scale": logs}}, x, None)

    np.testing.assert_allclose(output(1000), output(100), rtol=1e-5)
    assert np.abs(output(50) - output(100)).max() > 1e-2 * output(100).std()


def test_cosines_do_not_depend_on_lengths():
    attention, x, params = attention_and_parameters()
    kernel = jax.random.normal(jax.random.key(2), (8, 24))
    longer = kernel * jnp.repeat(jnp.asarray([5.0, 0.1, 1.0]), 8)[None]
    once, again = (
        attention.apply({"params": {**params, "qkv": {"kernel": each}}}, x, None)
        for each in (kernel, longer)
    )
    np.testing.assert_allclose(again, once, atol=1e-5)


def test_keys_have_no_bias_and_scales_start_at_10():
    _, _, params = attention_and_parameters()
    assert set(params) == {
        "qkv",
        "q_bias",
        "v_bias",
        "logit_scale",
        "cpb_mlp_0",
        "cpb_mlp_2",
        "proj",
    }
    assert set(params["qkv"]) == {"kernel"}
    np.testing.assert_allclose(np.exp(params["logit_scale"]), 10, rtol=1e-6)


def test_positions_grow_with_the_logarithm_of_the_distance():
    # The paper's equation 4 for distances of 0, 1/2 and 1 window, scaled to 8 and to base 8.
    half, whole = np.log(5) / np.log(8), np.log(9) / np.log(8)
    rows, cols = swinv2.log_positions(3, 3).reshape(5, 5, 2).transpose(2, 0, 1)
    np.testing.assert_allclose(rows[:, 1], [-whole, -half, 0, half, whole], rtol=1e-6)
    np.testing.assert_allclose(cols[1], [-whole, -half, 0, half, whole], rtol=1e-6)


def test_positions_of_windows_larger_than_in_pretraining_lie_outside():
    small, large = swinv2.log_positions(12, 12), swinv2.log_positions(24, 12, 12)
    np.testing.assert_array_equal(small, large.reshape(47, 23, 2)[12:-12].reshape(-1, 2))
    np.testing.assert_allclose(large.max(0), np.log2(1 + 8 * np.asarray([23, 11]) / 11) / 3)


def test_a_window_of_one_position_has_a_distance_of_nothing():
    np.testing.assert_array_equal(swinv2.log_positions(1, 1), [[0, 0]])


def test_a_new_block_adds_nothing():
    block = swinv2.Block(2, 2, 1, 0, 4.0, 0.0, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 8))
    y, _ = block.init_with_output(jax.random.key(1), x, False)
    np.testing.assert_array_equal(y, x)


def test_merging_norms_what_it_projected():
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    kernel = jnp.asarray([[1.0, 0.0], [1.0, 2.0], [0.0, 3.0], [0.0, 0.0]])
    norm = {"scale": jnp.ones(2), "bias": jnp.zeros(2)}
    params = {"norm": norm, "reduction": {"kernel": kernel}}
    got = swinv2.PatchMerging(jnp.float32).apply({"params": params}, x)
    # Of two numbers, a norm leaves which is the larger: 1 + 4 < 2 * 4 + 3 * 2, and so on.
    np.testing.assert_allclose(got.reshape(4, 2), [[-1, 1], [-1, 1], [-1, 1], [1, -1]], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": (64, 30)}, r"sides divide by 4, got 64x30. Resize or pad"),
        ({"window_size": (7, 7)}, r"window_size needs one entry for each stage, .*\(7, 7\)"),
        ({"pretrained_window_sizes": (6,)}, r"pretrained_window_sizes needs one .* has 4; got"),
        ({"num_heads": (3, 6)}, r"num_heads needs one entry"),
        ({"embed_dim": 100}, r"3 heads cannot share stage 0's 100 channels"),
        ({"global_pool": "token"}, r"global_pool has to be one of .* got 'token'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model(NAME, **options)
