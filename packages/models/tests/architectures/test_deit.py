"""What is DeiT's own; what it computes is compared with timm's in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
NAME = "deit_tiny_distilled_patch16_224"


def test_training_can_see_both_heads_whose_mean_is_the_output():
    plain = scenax.models.create_model(NAME, num_classes=5, **SMALL)
    both = scenax.models.create_model(NAME, num_classes=5, distilled_training=True, **SMALL)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    variables = plain.init(jax.random.key(1), images, train=False)
    output = plain.apply(variables, images, train=True)
    head, head_dist = both.apply(variables, images, train=True)
    assert np.abs(head - head_dist).max() > 0.01 * np.std(output)
    np.testing.assert_allclose((head + head_dist) / 2, output, atol=1e-6)
    np.testing.assert_array_equal(both.apply(variables, images, train=False), output)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (NAME, {"global_pool": "avg"}, r"one of \('token',\), got 'avg'"),
        (NAME, {"distilled_training": True, "num_classes": 0}, r"two heads: a name with _dist"),
        ("deit_tiny_patch16_224", {"distilled_training": True}, r"two heads: a name with _dist"),
        ("deit3_small_patch16_224", {"img_size": 100}, r"DeiT/16 needs .* divide by 16, got 100"),
        ("deit_tiny_patch16_224", {"num_heads": 5}, r"multiple of num_heads, got 192 and 5"),
    ],
)
def test_what_cannot_be_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model(name, **options)


def test_positions_are_of_all_tokens_or_of_patches_only():
    counts = {}
    for name in ("deit_tiny_patch16_224", NAME, "deit3_small_patch16_224"):
        model, images = scenax.models.create_model(name, **SMALL), jnp.zeros((1, 32, 32, 3))
        shapes = jax.eval_shape(
            lambda x, m=model: m.init(jax.random.key(0), x, train=False), images
        )
        counts[name] = shapes["params"]["pos_embed"].shape[1]
    assert list(counts.values()) == [17, 18, 16]
