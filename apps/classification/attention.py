"""What a vision transformer looks at."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from scenax.models.architectures import vit


def last_block(
    module: vit.VisionTransformer,
    variables: Mapping[str, Any],
    images: Float[np.ndarray, "n h w c"],
) -> Float[np.ndarray, "n heads rows columns"]:
    """Returns how much the pooled tokens see of each patch in the last block, by head.

    Pooled is the class token, or all patches, whose mean it is then.
    """
    maps = jax.device_get(vit.attention_maps(module, variables, jnp.asarray(images)))
    rows, columns = (side // module.size.patch_size for side in module.img_size)
    pooled = slice(0, 1) if module.global_pool == "token" else slice(1, None)
    seen = maps[:, -1, :, pooled, 1:].mean(axis=2)
    return seen.reshape(len(images), -1, rows, columns)
