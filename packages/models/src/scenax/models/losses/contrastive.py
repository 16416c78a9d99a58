"""Losses of pairs of embeddings against all other pairs, per pair.

Letters in shapes: b batch, d width. Embeddings are used as they are: normalise them first.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def softmax_contrastive(
    images: Float[Array, "b d"],
    texts: Float[Array, "b d"],
    scale: Float[Array, ""],
    mask: Float[Array, " b"],
) -> Float[Array, " b"]:
    """Returns CLIP's loss of each pair (arXiv 2103.00020, figure 3): the mean of both directions.

    Args:
      images: embeddings of one side.
      texts: of the other; row i belongs to row i.
      scale: factor of the similarities, the inverse temperature.
      mask: 0 for pairs that are padding. No other pair is compared with these.
    """
    logits = scale.astype(jnp.float32) * _similarities(images, texts)
    real = mask > 0
    low = -1e30  # Not infinite: a batch of padding has gradients too.
    to_text = jax.nn.logsumexp(jnp.where(real[None, :], logits, low), axis=1)
    to_image = jax.nn.logsumexp(jnp.where(real[:, None], logits, low), axis=0)
    values = (to_text + to_image) / 2 - jnp.diagonal(logits)
    return jnp.where(real, values, 0.0)


def sigmoid_contrastive(
    images: Float[Array, "b d"],
    texts: Float[Array, "b d"],
    scale: Float[Array, ""],
    bias: Float[Array, ""],
    mask: Float[Array, " b"],
) -> Float[Array, " b"]:
    """Returns SigLIP's loss of each pair (arXiv 2303.15343, algorithm 1).

    Every image is asked of every text whether they belong together; a pair's value is the sum over
    its image's questions.

    Args:
      images: embeddings of one side.
      texts: of the other; row i belongs to row i.
      scale: factor of the similarities.
      bias: what is added to them.
      mask: 0 for pairs that are padding. No other pair is compared with these.
    """
    logits = scale.astype(jnp.float32) * _similarities(images, texts) + bias.astype(jnp.float32)
    belongs = 2 * jnp.eye(len(images)) - 1
    values = -jax.nn.log_sigmoid(belongs * logits)
    real = mask > 0
    return jnp.sum(jnp.where(real[None, :] & real[:, None], values, 0.0), axis=1)


def _similarities(images: Float[Array, "b d"], texts: Float[Array, "b d"]) -> Float[Array, "b b"]:
    return images.astype(jnp.float32) @ texts.astype(jnp.float32).T
