import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures.vit import attention_maps

from ..attention import last_block


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_it_is_what_the_pooled_tokens_see_of_the_patches(pool):
    model = scenax.models.create_model(
        "test_vit", img_size=(8, 16), patch_size=4, depth=2, embed_dim=16, global_pool=pool
    )
    images = np.random.default_rng(0).normal(size=(2, 8, 16, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), jnp.asarray(images), train=False)
    variables = jax.tree.map(lambda x: 4 * x, dict(variables))
    maps = np.asarray(attention_maps(model, variables, jnp.asarray(images)))
    found = last_block(model, variables, images)
    assert found.shape == (2, 2, 2, 4)
    for image in range(2):
        for head in range(2):
            for patch in range(8):
                weights = maps[image, 1, head, :, 1 + patch]  # What each token gives the patch.
                wanted = weights[0] if pool == "token" else np.mean(weights[1:])
                row, column = divmod(patch, 4)
                assert found[image, head, row, column] == pytest.approx(wanted, rel=1e-5)
    assert found.std() > 1e-3
