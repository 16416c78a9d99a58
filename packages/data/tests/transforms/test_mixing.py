import numpy as np
import pytest

from scenax.data.transforms import mixing


def example(seed: int, class_id: int):
    image = np.random.default_rng(seed).uniform(-1, 1, size=(4, 5, 3)).astype(np.float32)
    return {"inputs": image, "label": mixing.one_hot(class_id, 6), "id": seed}


def test_both_are_the_papers_blend_with_one_share():
    first, second = example(1, 2), example(2, 5)
    share = np.random.default_rng(7).beta(0.2, 0.2)
    assert 1e-3 < share < 1 - 1e-3
    found = mixing.Mixup(0.2)(first, second, np.random.default_rng(7))
    for name in ("inputs", "label"):
        a, b = first[name].astype(np.float64), second[name].astype(np.float64)
        np.testing.assert_allclose(found[0][name], share * a + (1 - share) * b, atol=1e-6)
        np.testing.assert_allclose(found[1][name], share * b + (1 - share) * a, atol=1e-6)
        assert found[0][name].dtype == found[1][name].dtype == np.float32
    assert (found[0]["id"], found[1]["id"]) == (1, 2)


def test_labels_sum_to_one_and_shares_have_the_betas_moments():
    rng, alpha = np.random.default_rng(0), 0.2
    mix = mixing.Mixup(alpha)
    labels = np.stack(
        [[e["label"] for e in mix(example(1, 2), example(2, 5), rng)] for _ in range(4000)]
    )
    np.testing.assert_allclose(labels.sum(axis=-1), 1, atol=1e-6)
    shares = labels[:, :, 2]
    # A symmetric Beta has mean 1/2 and variance 1 / (4 (2 alpha + 1)).
    np.testing.assert_allclose(shares.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(shares.var(axis=0), 1 / (4 * (2 * alpha + 1)), atol=0.01)


def test_what_cannot_be_mixed_is_named():
    with pytest.raises(ValueError, match=r"alpha above 0, got -1\.0"):
        mixing.Mixup(-1.0)
    with pytest.raises(TypeError, match="needs one-hot labels, got 3"):
        mixing.Mixup()({"label": 3}, {"label": 4}, np.random.default_rng(0))
