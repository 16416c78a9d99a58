import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets as sklearn_datasets

from scenax import data
from scenax.data.datasets import digits
from scenax.data.sources import tfds as tfds_source

BUNCH = sklearn_datasets.load_digits()


@pytest.fixture(scope="module")
def splits():
    builder = tfds_source.prepare("digit_strings")
    found = {}
    for split in ("train", "validation", "test"):
        source = tfds_source.open_lazily(builder, split, encoded=["image"])
        found[split] = [source[index] for index in range(len(source))]
        for example in found[split]:
            example["image"] = np.asarray(Image.open(io.BytesIO(example["image"])))
    return found


def test_a_split_shows_its_own_digits_only(splits):
    for split, examples in splits.items():
        rows = np.unique(np.concatenate([example["sources"] for example in examples]))
        assert {digits.split_of(BUNCH.images[row]) for row in rows} == {split}
        assert len(rows) > 100
        for example in examples:
            assert [int(c) for c in example["text"].decode()] == [*BUNCH.target[example["sources"]]]
        lengths = np.bincount([len(example["sources"]) for example in examples])
        assert lengths.tolist() == [0] + [len(examples) // 5] * 5
    assert [len(examples) for examples in splits.values()] == [2000, 250, 500]


def test_digits_stand_from_left_to_right_without_overlap(splits):
    lefts, tops, sizes = [], [], []
    for example in splits["train"]:
        x0, y0, x1, y1 = example["cells"].T
        assert np.all(x0[1:] >= x1[:-1])
        assert x0[0] >= 0
        assert x1[-1] <= 64
        assert y0.min() >= 0
        assert y1.max() <= 16
        lefts.append(x0[0])
        tops.extend(y0)
        sizes.extend(y1 - y0)
    assert set(sizes) == set(range(10, 17))
    assert set(tops) == set(range(7))
    assert len(set(lefts)) > 40


def test_pictures_are_what_pillow_composes(splits):
    for example in splits["validation"]:
        ink = np.zeros((16, 64), np.float32)
        for row, cell in zip(example["sources"], example["cells"].astype(int), strict=True):
            x0, y0, x1, y1 = cell
            digit = Image.fromarray(BUNCH.images[row].astype(np.float32))
            digit = digit.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
            ink[y0:y1, x0:x1] = np.asarray(digit)
        assert abs(np.corrcoef(ink.ravel(), example["image"].ravel())[0, 1]) > 0.9


def test_labels_are_the_tokens_of_the_text(splits):
    dataset = data.get_dataset("digit_strings", batch_size=4, eval_batch_size=100)
    info = dataset.meta_data
    assert info.label_names == ("<pad>", "<end>", *"0123456789")
    assert info.num_classes == 12
    batch = next(iter(dataset.test_iter))
    assert batch["inputs"].shape == (100, *info.input_shape)
    assert batch["label"].shape == batch["label_weights"].shape == (100, 6)
    assert batch["label"].dtype == np.int32
    for index, example in enumerate(splits["test"][:100]):
        text = example["text"].decode()
        names = [info.label_names[token] for token in batch["label"][index]]
        assert names == [*text, "<end>"] + ["<pad>"] * (5 - len(text))
        counted = batch["label_weights"][index].tolist()
        assert counted == [1.0] * (len(text) + 1) + [0.0] * (5 - len(text))
        np.testing.assert_allclose(
            batch["inputs"][index, ..., 0], example["image"] / 255 * 2 - 1, rtol=0, atol=1e-6
        )


def test_paper_and_blackboard_come_alike(splits):
    medians = np.array([np.median(example["image"]) for example in splits["train"]])
    assert np.mean(medians > 127) == pytest.approx(0.5, abs=0.05)


def test_pictures_are_as_they_ever_were(splits):
    def digest(example):
        arrays = [example["image"], example["cells"], example["sources"]]
        content = b"".join(np.asarray(array, np.int32).tobytes() for array in arrays)
        return hashlib.sha256(content + example["text"]).hexdigest()[:16]

    found = {split: [digest(example) for example in splits[split][:3]] for split in splits}
    assert found == {
        "train": ["e01aec6a12e1a71e", "6e39f4362f268a26", "3159e3ec14bea0b1"],
        "validation": ["2bd9529ecc4b2803", "71624bfbfa42c6ea", "e8c4f714e3a023fe"],
        "test": ["62b6994905353004", "70756b6c955a69be", "756ca31329351546"],
    }
