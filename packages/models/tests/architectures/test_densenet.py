"""What is DenseNet's own; what it computes is compared with timm's in test_parity.py."""

import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import densenet


def test_a_blurred_pool_by_hand():
    x = np.zeros((1, 4, 6, 1), np.float32)
    x[0, 1, 2] = 16.0
    got = densenet._blurred_pool(jnp.asarray(x))[0, :, :, 0]
    largest = np.zeros((4, 6))
    largest[:3, 1:4] = 16.0  # A maximum of 3 x 3 neighbours, everywhere.
    padded = np.pad(largest, 1, mode="reflect")
    taps = np.outer([1, 2, 1], [1, 2, 1]) / 16
    wanted = [[np.sum(taps * padded[i : i + 3, j : j + 3]) for j in (0, 2, 4)] for i in (0, 2)]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_path_rate": 0.1}, r"DenseNet has no residual branches for drop_path_rate=0.1"),
        ({"stem_type": "patch"}, r"stem_type has to be '' or 'deep', got 'patch'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model("densenet121", **options)


def test_layers_of_the_names():
    # A name counts convolutions and the classifier: 2 for each layer, 1 for stem and transitions.
    for name, size in densenet.VARIANTS.items():
        if not size.stem_type:
            assert 2 * sum(size.block_config) + 1 + 3 + 1 == int(name.removeprefix("densenet"))
