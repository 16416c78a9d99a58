"""The rules on a small network of each kind of layer; families' parity tests use the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from scenax.models.pretrained.timm import from_timm

RNG = np.random.default_rng(0)


class Part(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(4, (3, 2), padding="VALID", name="conv")(x)
        return nn.BatchNorm(use_running_average=not train, epsilon=1e-5, name="bn")(x)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = Part(name="stages_1_blocks_0")(x, train=train).mean(axis=(1, 2))
        x = nn.Dense(5, name="fc")(x) * self.param("gamma", nn.initializers.ones, (1, 5))
        return x


def state():
    def array(*shape):
        return RNG.normal(size=shape).astype(np.float32)

    return {
        "stages_1_blocks.0.conv.weight": array(4, 2, 3, 2),
        "stages_1_blocks.0.conv.bias": array(4),
        "stages_1_blocks.0.bn.weight": array(4),
        "stages_1_blocks.0.bn.bias": array(4),
        "stages_1_blocks.0.bn.running_mean": array(4),
        "stages_1_blocks.0.bn.running_var": 1 + array(4) ** 2,
        "stages_1_blocks.0.bn.num_batches_tracked": np.array(7),
        "fc.weight": array(5, 4),
        "fc.bias": array(5),
        "gamma": array(1, 5),
    }


def test_every_rule_against_numpy():
    arrays = state()
    x = RNG.normal(size=(2, 4, 3, 2)).astype(np.float32)
    got = Net().apply(from_timm(arrays, Net(), (4, 3, 2)), x, train=False)

    part = {key.removeprefix("stages_1_blocks.0."): value for key, value in arrays.items()}
    maps = np.zeros((2, 2, 2, 4))
    for row in range(2):
        for column in range(2):
            patch = x[:, row : row + 3, column : column + 2]
            maps[:, row, column] = np.einsum("bhwi,oihw->bo", patch, part["conv.weight"])
    maps = maps + part["conv.bias"] - part["bn.running_mean"]
    maps = maps / np.sqrt(part["bn.running_var"] + 1e-5) * part["bn.weight"] + part["bn.bias"]
    wanted = (maps.mean(axis=(1, 2)) @ arrays["fc.weight"].T + arrays["fc.bias"]) * arrays["gamma"]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_all_problems_are_reported_at_once():
    arrays = state()
    arrays["head.weight"] = np.zeros((3, 5))
    arrays["fc.bias"] = np.zeros(6)
    del arrays["stages_1_blocks.0.bn.running_var"], arrays["gamma"]
    with pytest.raises(ValueError, match="do not fit this Net") as error:
        from_timm(arrays, Net(), (4, 3, 2))
    for line in (
        r"left over: head.weight (3, 5), which would be params/head/kernel",
        r"shape: fc.bias gives params/fc/bias (6,), not (5,)",
        r"missing: batch_stats/stages_1_blocks_0/bn/var (4,)",
        r"missing: params/gamma (1, 5)",
    ):
        assert line in str(error.value)


def test_what_is_ignored_may_be_left_over():
    arrays = state() | {"head.weight": np.zeros((3, 5)), "head.bias": np.zeros(3)}
    variables = from_timm(arrays, Net(), (4, 3, 2), ignore=("head.*",))
    template = jax.eval_shape(
        lambda x: Net().init(jax.random.key(0), x, train=False), jnp.zeros((1, 4, 3, 2))
    )
    assert jax.tree.structure(variables) == jax.tree.structure(dict(template))
