"""What is PVT's own, both versions; what they compute is compared with others in test_parity.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scenax.models
from scenax.models.architectures import pvt_v2


@pytest.mark.parametrize("side", [7, 9, 14, 20])
def test_averaged_windows_cover_the_map_evenly(side):
    x = np.arange(side, dtype=np.float32) ** 2
    got = pvt_v2._average(jnp.asarray(np.outer(x, np.ones(side))).reshape(1, side, side, 1))
    # As torch documents adaptive pooling: from the floor of its start to the ceiling of its end.
    wanted = [x[i * side // 7 : -(-(i + 1) * side // 7)].mean() for i in range(7)]
    np.testing.assert_allclose(got[0, :, 3, 0], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "millions", "top1"),
    [("pvt_tiny", 13.2, 75.1), ("pvt_small", 24.5, 79.8), ("pvt_large", 61.4, 81.7)],
)
def test_sizes_and_accuracies_are_those_of_the_papers_table_1(name, millions, top1):
    model = scenax.models.create_model(name)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count / 1e6 == pytest.approx(millions, abs=0.06)
    assert model.default_cfg["top1"] == top1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pvt_tiny", {"img_size": 100}, r"PVT/32 needs an image whose sides divide by 32, got 100"),
        ("pvt_tiny", {"global_pool": "avg"}, r"one of \('token', ''\), got 'avg'"),
        ("pvt_tiny", {"depths": (1, 2)}, r"one entry for each stage, got \(1, 2\)"),
        ("pvt_v2_b0", {"num_heads": (1, 2, 3, 8)}, r"3 heads cannot share 160 channels"),
        ("pvt_v2_b0", {"global_pool": "max"}, r"one of \('avg', ''\), got 'max'"),
    ],
)
def test_what_cannot_be_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        scenax.models.create_model(name, **options)
