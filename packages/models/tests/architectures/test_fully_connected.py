import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models


def test_the_same_network_in_numpy():
    model = scenax.models.create_model("fully_connected", num_classes=4, hid_sizes=[6, 5])
    x = jax.random.normal(jax.random.key(0), (3, 4, 2, 2))
    variables = model.init(jax.random.key(1), x, train=False)
    params = jax.tree.map(np.asarray, variables["params"])
    layers = [params[name] for name in ("fc_0", "fc_1", "head")]
    y = np.asarray(x).reshape(3, 16)
    for layer in layers[:-1]:
        y = np.clip(y @ layer["kernel"] + layer["bias"], 0, None)
    wanted = y @ layers[-1]["kernel"] + layers[-1]["bias"]
    np.testing.assert_allclose(model.apply(variables, x, train=False), wanted, atol=1e-5)

    features = scenax.models.create_model("fully_connected", num_classes=0, hid_sizes=[6, 5])
    del variables["params"]["head"]
    np.testing.assert_allclose(features.apply(variables, x, train=False), y, atol=1e-5)
    assert features.num_features == 5


@pytest.mark.parametrize(
    ("hid_sizes", "count"), [(None, 20 * 65 + 10 * 21 + 11 * 3), (7, 7 * 65 + 8 * 3), ((), 65 * 3)]
)
def test_hidden_layers(hid_sizes, count):
    model = scenax.models.create_model("fully_connected", num_classes=3, hid_sizes=hid_sizes)
    variables = model.init(jax.random.key(1), jnp.zeros((1, 8, 8)), train=False)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


def test_what_it_does_not_have():
    assert scenax.models.create_model("fully_connected").feature_info == []
    with pytest.raises(ValueError, match="fully_connected has no feature maps"):
        scenax.models.create_model("fully_connected", features_only=True)
    with pytest.raises(ValueError, match="the features are the input"):
        _ = scenax.models.create_model("fully_connected", hid_sizes=()).num_features
