"""The rules by which optimizers change parameters: one function per paper.

They are chains of optax's parts. Weight decay is either an L2 penalty, which is added to the
gradient, or AdamW's, which is added to the direction; both are multiplied by the learning rate.
Checked over five steps against torch's and timm's code, and where neither has the rule against its
formulas in numpy.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from scenax.common.contracts import PyTree
from scenax.common.registry import Registry
from scenax.train.parameter_rates import outside_head

RULES: Registry = Registry("optimizer")

ADAPTED = ("lamb", "lars")
"""Those whose steps are as long as what weight decay applies to."""


class Common(NamedTuple):
    """What every optimizer puts into its own order."""

    decay: optax.GradientTransformation
    """Adds ``weight_decay`` times the parameters, where they have it."""
    rate: optax.GradientTransformation
    """Multiplies by the learning rate, and turns downhill."""
    mask: Callable[[PyTree], PyTree]
    """Where weight decay applies."""


@RULES.register("sgd")
def sgd(
    common: Common, *, momentum: float = 0.9, nesterov: bool = False
) -> optax.GradientTransformation:
    """Returns SGD with momentum, torch's; weight decay is an L2 penalty, added to the gradient."""
    if not momentum:
        if nesterov:
            raise ValueError("nesterov is a kind of momentum, and momentum is 0.")
        return optax.chain(common.decay, common.rate)
    return optax.chain(common.decay, optax.trace(momentum, nesterov), common.rate)


@RULES.register("adam")
def adam(
    common: Common,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    mu_dtype: str | None = None,
) -> optax.GradientTransformation:
    """Returns Adam (arXiv 1412.6980); weight decay is an L2 penalty, added to the gradient.

    ``mu_dtype`` is that in which the first moment is kept, the parameters' if None.
    """
    return optax.chain(
        common.decay, optax.scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype), common.rate
    )


@RULES.register("adamw")
def adamw(
    common: Common,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    mu_dtype: str | None = None,
) -> optax.GradientTransformation:
    """Returns AdamW (arXiv 1711.05101), with the learning rate on weight decay as torch has it.

    ``mu_dtype`` is that in which the first moment is kept, the parameters' if None.
    """
    return optax.chain(
        optax.scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype), common.decay, common.rate
    )


@RULES.register("lamb")
def lamb(
    common: Common, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6
) -> optax.GradientTransformation:
    """Returns LAMB (arXiv 1904.00962): AdamW's direction as long as each array of weights.

    Arrays that ``decay_mask`` leaves out keep AdamW's length, as in the authors' code.
    """
    adapted = optax.masked(optax.scale_by_trust_ratio(), common.mask)
    return optax.chain(optax.scale_by_adam(b1, b2, eps), common.decay, adapted, common.rate)


@RULES.register("lars")
def lars(
    common: Common,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    trust_coefficient: float = 1e-3,
) -> optax.GradientTransformation:
    """Returns LARS (arXiv 1708.03888), with the norm of gradient and weight decay together.

    As in SimCLR's code. Arrays that ``decay_mask`` leaves out have the momentum of SGD.
    """
    ratio = optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient)
    return optax.chain(
        common.decay,
        optax.masked(ratio, common.mask),
        common.rate,
        optax.trace(momentum, nesterov),
    )


@RULES.register("lion")
def lion(common: Common, *, b1: float = 0.9, b2: float = 0.99) -> optax.GradientTransformation:
    """Returns Lion (arXiv 2302.06675), with AdamW's weight decay."""
    return optax.chain(optax.scale_by_lion(b1, b2), common.decay, common.rate)


@RULES.register("rmsprop")
def rmsprop(
    common: Common, *, momentum: float = 0.9, decay: float = 0.9, eps: float = 1e-10
) -> optax.GradientTransformation:
    """Returns TensorFlow's RMSProp, of EfficientNet's and MobileNet's recipes.

    ``decay`` is that of the mean square, which begins at 1; ``eps`` is under the root; the learning
    rate goes into the momentum. Weight decay is an L2 penalty, added to the gradient.
    """
    scaled = optax.scale_by_rms(decay, eps, initial_scale=1.0, eps_in_sqrt=True)
    return optax.chain(common.decay, scaled, common.rate, optax.trace(momentum))


@RULES.register("adafactor")
def adafactor(
    common: Common,
    *,
    decay_rate: float = 0.8,
    clipping_threshold: float = 1.0,
    min_dim_size_to_factor: int = 128,
) -> optax.GradientTransformation:
    """Returns Adafactor (arXiv 1804.04235), with AdamW's weight decay.

    Steps are as long as the learning rate times the root mean square of the parameters. Arrays with
    two sides of at least ``min_dim_size_to_factor`` have their second moment in factors.
    """
    return optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=decay_rate, min_dim_size_to_factor=min_dim_size_to_factor
        ),
        optax.clip_by_block_rms(clipping_threshold),
        optax.scale_by_param_block_rms(),
        common.decay,
        common.rate,
    )


@RULES.register("adafactor_big_vision")
def adafactor_big_vision(
    common: Common,
    *,
    momentum: float = 0.9,
    decay_rate: float = 0.8,
    b2_cap: float = 0.999,
    clipping_threshold: float | None = None,
    min_dim_size_to_factor: int = 32,
) -> optax.GradientTransformation:
    """Returns big_vision's Adafactor (arXiv 2106.04560, section 3.4), with AdamW's weight decay.

    It is Adam in half of the memory: the second moment in factors, whose decay grows up to
    ``b2_cap``, momentum in bfloat16, and no scaling by the parameters' size. Updates are clipped
    to a root mean square of ``clipping_threshold``, 1 in the paper and none in most configurations.
    """

    def b2(count: Any, exponent: Any) -> jax.Array:
        return jnp.minimum(b2_cap, 1.0 - (count + 1.0) ** -exponent)

    clipped = [] if clipping_threshold is None else [optax.clip_by_block_rms(clipping_threshold)]
    return optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=decay_rate,
            min_dim_size_to_factor=min_dim_size_to_factor,
            decay_rate_fn=b2,
        ),
        *clipped,
        optax.ema(momentum, debias=False, accumulator_dtype=jnp.bfloat16),
        common.decay,
        common.rate,
    )


@RULES.register("muon")
def muon(
    common: Common,
    *,
    momentum: float = 0.95,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    rms: float = 0.2,
) -> optax.GradientTransformation:
    """Returns Muon (github.com/KellerJordan/Muon) for matrices, and AdamW for all the rest.

    The rest is what has not two dimensions, and the classifier (``HEAD``). Steps of matrices have
    a root mean square of about ``rms``, as Adam's do, so that the learning rate and weight decay
    are AdamW's (arXiv 2502.16982). ``b1``, ``b2`` and ``eps`` are of AdamW.
    """

    def labels(params: PyTree) -> PyTree:
        return jax.tree.map(
            lambda p, body: "matrix" if p.ndim == 2 and body else "other",
            params,
            outside_head(params),
        )

    # optax's is sqrt(max(1, outputs / inputs)) times an orthogonal matrix; wanted is
    # rms * sqrt(max(inputs, outputs)) times it.
    matched = optax.stateless_with_tree_map(lambda u, _: -rms * u * math.sqrt(jnp.shape(u)[0]))
    matrices = optax.chain(optax.contrib.muon(1.0, beta=momentum), matched)
    others = optax.scale_by_adam(b1, b2, eps)
    both = optax.partition({"matrix": matrices, "other": others}, labels)
    return optax.chain(both, common.decay, common.rate)
