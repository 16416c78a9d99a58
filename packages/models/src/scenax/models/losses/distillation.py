"""Losses of a student against its teacher, per example. Letters in shapes: b batch, k classes.

As in DeiT (arXiv 2012.12877, section 4). No gradient reaches the teacher.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from scenax.models.losses.classification import softmax_cross_entropy


def soft_distillation(
    logits: Float[Array, "b k"], teacher_logits: Float[Array, "b k"], *, temperature: float = 1.0
) -> Float[Array, " b"]:
    """Returns the Kullback-Leibler divergence of the teacher's distribution from the student's.

    Times the squared temperature, so that gradients keep their size (arXiv 1503.02531).

    Args:
      logits: the student's.
      teacher_logits: the teacher's.
      temperature: what both are divided by.
    """
    teacher = jax.lax.stop_gradient(teacher_logits).astype(jnp.float32)
    student = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    target = jax.nn.log_softmax(teacher / temperature)
    return optax.losses.kl_divergence_with_log_targets(student, target) * temperature**2


def hard_distillation(
    logits: Float[Array, "b k"], teacher_logits: Float[Array, "b k"]
) -> Float[Array, " b"]:
    """Returns the cross-entropy with the class that the teacher finds likeliest."""
    return softmax_cross_entropy(logits, jnp.argmax(teacher_logits, axis=-1))
