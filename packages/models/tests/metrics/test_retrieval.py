import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from scenax.models.metrics.retrieval import RetrievalRecall, recall_at_k

jitted = jax.jit(recall_at_k, static_argnums=2)


def by_sorting(similarity, is_match, k):
    """Python's sort is stable, so of equal ones the lower index stays first."""
    return [
        float(any(match[j] for j in sorted(range(len(row)), key=lambda j: -row[j])[:k]))
        for row, match in zip(similarity, is_match, strict=True)
    ]


def test_against_sorting_with_many_ties():
    rng = np.random.default_rng(0)
    similarity = rng.integers(0, 4, size=(60, 12)).astype(np.float32)
    is_match = rng.random((60, 12)) < 0.15
    is_match[0] = False
    got = jitted(jnp.asarray(similarity), jnp.asarray(is_match), (5, 1, 12))
    for column, k in zip(got.T, (5, 1, 12), strict=True):
        np.testing.assert_array_equal(column, by_sorting(similarity, is_match, k))
    assert got[0].tolist() == [0, 0, 0]
    assert 0.0 < got[:, 1].mean() < got[:, 0].mean() < got[:, 2].mean() < 1.0


def test_one_match_each_is_top_k_accuracy():
    rng = np.random.default_rng(1)
    similarity = rng.normal(size=(40, 10)).astype(np.float32)
    answers = np.arange(40) % 10
    got = jitted(jnp.asarray(similarity), jnp.asarray(np.eye(10, dtype=bool)[answers]), (1, 3))
    for column, k in zip(got.T, (1, 3), strict=True):
        assert np.mean(column) == pytest.approx(top_k_accuracy_score(answers, similarity, k=k))


def test_no_queries_and_a_gallery_of_one():
    assert recall_at_k(jnp.zeros((0, 3)), jnp.zeros((0, 3), bool), (1, 2)).shape == (0, 2)
    got = recall_at_k(jnp.zeros((2, 1)), jnp.asarray([[True], [False]]), (1,))
    np.testing.assert_array_equal(got, [[1], [0]])


@pytest.mark.parametrize("ks", [(), (0,), (1, 4)])
def test_more_results_than_the_gallery(ks):
    with pytest.raises(ValueError, match="from 1 to the 3 items of the gallery"):
        recall_at_k(jnp.zeros((2, 3)), jnp.zeros((2, 3), bool), ks)


def case(seed, images=30, texts=70):
    """Small integers, whose dot products are exact in float32 and often equal."""
    rng = np.random.default_rng(seed)
    image_ids = rng.permutation(1000)[:images]
    text_ids = rng.choice(image_ids[:-3], size=texts)  # three images have no text
    codes = {i: rng.integers(-2, 3, size=4) for i in image_ids}
    image = np.stack([codes[i] for i in image_ids]).astype(np.float32)
    noise = rng.integers(-3, 4, size=(texts, 4))
    text = (np.stack([codes[i] for i in text_ids]) + noise).astype(np.float32)
    return image, image_ids, text, text_ids


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_both_ways_against_sorting(chunk):
    image, image_ids, text, text_ids = case(2)
    recall = RetrievalRecall((1, 5, 10), chunk=chunk)
    recall.add_images(image[:20], image_ids[:20])
    recall.add_texts(text, text_ids)
    recall.add_images(image[20:], image_ids[20:])
    got = recall.compute()
    similarity, is_match = image @ text.T, image_ids[:, None] == text_ids[None, :]
    for k in (1, 5, 10):
        there = np.mean(by_sorting(similarity, is_match, k))
        back = np.mean(by_sorting(similarity.T, is_match.T, k))
        assert got.pop(f"image_to_text_recall_{k}") == pytest.approx(there, abs=1e-15)
        assert got.pop(f"text_to_image_recall_{k}") == pytest.approx(back, abs=1e-15)
        assert 0.0 < back < 1.0
    assert got == {}


def test_identical_embeddings_are_not_all_right():
    # A collapsed model: only the first of the gallery is found at 1.
    recall = RetrievalRecall((1, 2))
    recall.add_images(np.ones((4, 3), np.float32), np.arange(4))
    recall.add_texts(np.ones((4, 3), np.float32), np.arange(4))
    assert recall.compute() == {
        "image_to_text_recall_1": 0.25,
        "image_to_text_recall_2": 0.5,
        "text_to_image_recall_1": 0.25,
        "text_to_image_recall_2": 0.5,
    }


def test_padding_and_merging():
    image, image_ids, text, text_ids = case(3)
    whole = RetrievalRecall()
    whole.add_images(image, image_ids)
    whole.add_texts(text, text_ids)
    one, other = RetrievalRecall(), RetrievalRecall()
    # A padded batch repeats its last image, and holds NaN.
    padded = np.concatenate([image[:9], image[8:9], np.full((1, 4), np.nan, np.float32)])
    one.add_images(padded, np.append(image_ids[:9], [image_ids[8], 0]), np.arange(11) < 9)
    one.add_texts(text, text_ids, np.arange(70) < 33)
    other.add_images(image[9:], image_ids[9:])
    other.add_texts(text[33:], text_ids[33:])
    one.merge(other)
    one.merge(RetrievalRecall())
    assert one.compute() == whole.compute()
    one.clear()
    assert one.to_arrays()["images"].size == 0


def test_errors():
    image, image_ids, text, text_ids = case(4)
    recall = RetrievalRecall()
    with pytest.raises(ValueError, match="at least 10 images and texts, got 0 images and 0 texts"):
        recall.compute()
    recall.add_images(image, image_ids)
    recall.add_texts(text[:9], text_ids[:9])
    with pytest.raises(ValueError, match="got 30 images and 9 texts"):
        recall.compute()
    recall.add_texts(text, text_ids)
    recall.add_images(image[4:5], image_ids[4:5])
    with pytest.raises(ValueError, match=f"more than once: ids .{image_ids[4]}"):
        recall.compute()
    with pytest.raises(ValueError, match="NaN or infinity"):
        recall.add_texts(np.full_like(text, np.inf), text_ids)
    recall = RetrievalRecall((1,))
    recall.add_images(image, image_ids)
    recall.add_texts(text[:, :3], text_ids)
    with pytest.raises(ValueError, match="images are 4 wide and those of texts 3"):
        recall.compute()
    with pytest.raises(ValueError, match="1 or more"):
        RetrievalRecall((0,))
