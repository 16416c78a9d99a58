"""Labels against what they mean: boxes, maps and texts are read back from them."""

import numpy as np
import pytest

from scenax.data.transforms.targets import (
    DetectionTargets,
    Keep,
    OneHot,
    PanopticTargets,
    SegmentationTargets,
    Tokens,
)

RNG = np.random.default_rng(0)  # None of them draws anything.


def test_only_what_is_named_is_kept():
    example = {"inputs": np.zeros(3), "label": 3, "name": "cat.jpg", "boxes": np.zeros((2, 4))}
    assert Keep()(example, RNG).keys() == {"inputs", "label"}
    found = Keep(("boxes", "inputs"))(example, RNG)
    assert found.keys() == {"boxes", "inputs"}
    assert found["boxes"] is example["boxes"]
    with pytest.raises(KeyError, match="mask"):
        Keep(("inputs", "mask"))(example, RNG)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("class_id", [0, 3, np.int32(4)])
def test_one_hot_labels_are_inceptions_formula(class_id, smoothing):
    # Szegedy et al., arXiv 1512.00567, eq. 7: q'(k) = (1 - e) delta(k, y) + e / K.
    expected = [(1 - smoothing) * (k == class_id) + smoothing / 5 for k in range(5)]
    found = OneHot(5, smoothing)({"label": class_id, "inputs": 1}, RNG)
    np.testing.assert_allclose(found["label"], expected, atol=1e-7)
    assert found["label"].dtype == np.float32
    assert found["inputs"] == 1
    with pytest.raises(IndexError):
        OneHot(3)({"label": 3}, RNG)


def objects(count, height=40, width=80, seed=0, **more):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, (width, height), (count, 2, 2)), axis=1)
    boxes = (corners + np.array([[0, 0], [1, 1]])).reshape(-1, 4).astype(np.float32)
    return {
        "inputs": np.zeros((height, width, 3), np.uint8),
        "boxes": boxes,
        "classes": np.arange(10, 10 + count).astype(np.int64),
    } | more


@pytest.mark.parametrize("count", [0, 3, 6])
def test_boxes_are_shares_of_the_image_and_places_are_filled_up(count):
    example = objects(count)
    label = DetectionTargets(6)(example, RNG)["label"]
    assert {name: (value.dtype.name, value.shape) for name, value in label.items()} == {
        "boxes": ("float32", (6, 4)),
        "classes": ("int32", (6,)),
        "mask": ("float32", (6,)),
        "is_crowd": ("bool", (6,)),
    }
    for place in range(6):
        if place < count:
            left, top, right, bottom = example["boxes"][place]
            shares = [left / 80, top / 40, right / 80, bottom / 40]
            np.testing.assert_allclose(label["boxes"][place], shares, rtol=1e-6)
            assert label["classes"][place] == 10 + place
            assert label["mask"][place] == 1
        else:
            assert not any(value[place].any() for value in label.values())


def test_crowds_have_a_place_but_are_not_to_be_found():
    crowd = np.array([False, True, False])
    label = DetectionTargets(4)(objects(3, is_crowd=crowd), RNG)["label"]
    np.testing.assert_array_equal(label["is_crowd"], [False, True, False, False])
    np.testing.assert_array_equal(label["mask"], [1, 0, 1, 0])
    np.testing.assert_array_equal(label["classes"], [10, 11, 12, 0])


def test_masks_have_places_too():
    masks = np.random.default_rng(0).random((3, 40, 80)) < 0.5
    label = DetectionTargets(5)(objects(3, masks=masks), RNG)["label"]
    assert label["masks"].dtype == np.bool_
    np.testing.assert_array_equal(label["masks"][:3], masks)
    assert not label["masks"][3:].any()
    none = DetectionTargets(5)(objects(0, masks=masks[:0]), RNG)["label"]
    assert none["masks"].shape == (5, 40, 80)


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_stay_where_there_are_too_many_in_their_order(seed):
    masks = np.random.default_rng(seed).random((9, 40, 80)) < 0.5
    crowd = np.arange(9) % 2 == 0
    example = objects(9, seed=seed, masks=masks, is_crowd=crowd)
    label = DetectionTargets(4)(example, RNG)["label"]
    sizes = [(right - left) * (bottom - top) for left, top, right, bottom in example["boxes"]]
    kept = sorted(sorted(range(9), key=lambda i: (-sizes[i], i))[:4])
    np.testing.assert_array_equal(label["classes"], [10 + i for i in kept])
    np.testing.assert_allclose(label["boxes"] * [80, 40, 80, 40], example["boxes"][kept], rtol=1e-6)
    np.testing.assert_array_equal(label["masks"], masks[kept])
    np.testing.assert_array_equal(label["mask"], [i % 2 for i in kept])


@pytest.mark.parametrize(("ignore", "kind"), [(255, np.uint8), (0, np.int32), (-1, np.int32)])
def test_pixels_without_a_class_do_not_count(ignore, kind):
    segmentation = np.array([[1, 2, ignore], [ignore, 7, 1]]).astype(kind)
    found = SegmentationTargets(ignore)({"segmentation": segmentation}, RNG)
    assert found["label"].dtype == np.int32
    assert found["label_weights"].dtype == np.float32
    np.testing.assert_array_equal(found["label"], [[1, 2, 0], [0, 7, 1]])
    np.testing.assert_array_equal(found["label_weights"], [[1, 1, 0], [0, 1, 1]])


def test_segments_are_numbered_in_their_order():
    segments = np.array([[0, 900, 900], [7, 7, 900], [0, 31, 31]])
    example = {
        "segments": segments,
        "segment_ids": np.array([7, 900, 55, 31]),  # A crop has cut 55 away.
        "segment_classes": np.array([4, 2, 9, 4]),
    }
    label = PanopticTargets(5)(example, RNG)["label"]
    np.testing.assert_array_equal(label["segments"], [[0, 2, 2], [1, 1, 2], [0, 3, 3]])
    np.testing.assert_array_equal(label["classes"], [4, 2, 4, -1, -1])
    assert label["segments"].dtype == label["classes"].dtype == np.int32
    # Every pixel has the class that it had.
    classes = dict(zip(example["segment_ids"], example["segment_classes"], strict=True))
    for before, after in zip(segments.ravel(), label["segments"].ravel(), strict=True):
        assert (after == 0) == (before == 0)
        assert before == 0 or label["classes"][after - 1] == classes[before]
    with pytest.raises(ValueError, match="3 segments need max_segments=3 at least"):
        PanopticTargets(2)(example, RNG)


def test_an_image_without_segments_has_a_label():
    empty = np.zeros(0, np.int32)
    example = {"segments": np.zeros((2, 3)), "segment_ids": empty, "segment_classes": empty}
    label = PanopticTargets(2)(example, RNG)["label"]
    assert not label["segments"].any()
    assert label["classes"].tolist() == [-1, -1]


VOCABULARY = ("<pad>", "<end>", "a", "b", "c")


@pytest.mark.parametrize("text", ["", "a", "cab", "abcab"])
def test_characters_are_tokens_until_the_end(text):
    found = Tokens(VOCABULARY, 6)({"text": text}, RNG)
    label, weights = found["label"], found["label_weights"]
    assert (label.dtype, weights.dtype) == (np.int32, np.float32)
    end = label.tolist().index(1)
    assert "".join(VOCABULARY[i] for i in label[:end]) == text
    assert label[end + 1 :].tolist() == [0] * (5 - end)
    np.testing.assert_array_equal(weights, [1] * (end + 1) + [0] * (5 - end))


def test_a_long_text_is_cut_off_and_still_has_an_end():
    found = Tokens(VOCABULARY, 4)({"text": "abcabc"}, RNG)
    assert found["label"].tolist() == [2, 3, 4, 1]
    assert found["label_weights"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "ids"),
    [("dog cat", [3, 2, 1]), ("cat", [2, 1]), ("", [1]), (" dog  cat ", [3, 2, 1])],
)
def test_words_are_tokens_between_separators(text, ids):
    found = Tokens(("", "", "cat", "dog"), 4, separator=" ")({"text": text}, RNG)
    assert found["label"].tolist() == ids + [0] * (4 - len(ids))
    assert found["label_weights"].sum() == len(ids)


@pytest.mark.parametrize("text", ["abx", "<pad>", "ab" * 9 + "x"])
def test_what_is_not_in_the_vocabulary_is_named(text):
    # Not even if it would have been cut off; and padding and end are no tokens of a text.
    with pytest.raises(ValueError, match=r"'[x<]' in '.*' is not in the vocabulary of 3 tokens"):
        Tokens(VOCABULARY, 4)({"text": text}, RNG)
