import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets as sklearn_datasets
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from scenax import data
from scenax.data.datasets import digits
from scenax.data.sources import tfds as tfds_source

NAMES = ["left", "right", "up", "down", "clockwise", "counter-clockwise", "grow", "shrink"]


@pytest.fixture(scope="module")
def splits():
    """Videos ``[n, 16, 32, 32]``, labels and source digits of every split."""
    builder = tfds_source.prepare("moving_digits")
    found = {}
    for split in ("train", "validation", "test"):
        source = tfds_source.open_lazily(builder, split, encoded=["video"])
        examples = [source[index] for index in range(len(source))]
        videos = [np.asarray(Image.open(io.BytesIO(example["video"]))) for example in examples]
        found[split] = (
            np.stack(videos).reshape(-1, 16, 32, 32),
            np.array([example["label"] for example in examples]),
            np.concatenate([example["sources"] for example in examples]),
        )
    return found


def motion(video):
    """Medians over a video of the change per frame of x, y, angle (clockwise) and size (octaves).

    The picture is a torus, so the centre is the phase of the lowest Fourier coefficients, and the
    angle is that of the second moments about it.
    """
    places = np.arange(32)
    wave = np.exp(2j * np.pi * places / 32)
    states = []
    for frame in video / 255:
        x, y = (np.angle(frame.sum(axis) @ wave) * 32 / (2 * np.pi) for axis in (0, 1))
        right, down = ((places - place + 16) % 32 - 16 for place in (x, y))
        z = right[None, :] + 1j * down[:, None]
        states.append((x, y, np.angle((frame * z**2).sum()) / 2, np.log2(frame.sum()) / 2))
    circles = np.array([32, 32, np.pi, 1])
    changes = (np.diff(states, axis=0) + circles / 2) % circles - circles / 2
    return np.median(changes, axis=0)


def test_a_split_shows_its_own_digits_only_and_all_motions_alike(splits):
    images = sklearn_datasets.load_digits().images
    for split, (_, labels, rows) in splits.items():
        assert {digits.split_of(images[row]) for row in rows} == {split}
        assert len(set(rows)) > 100
        assert len(set(np.bincount(labels, minlength=8))) == 1
    assert [len(labels) for _, labels, _ in splits.values()] == [1600, 200, 400]


@pytest.mark.parametrize("frame", [0, 8, 15])
def test_a_single_frame_tells_nothing(splits, frame):
    def coarse(videos):
        return videos[:, frame].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64) / 255

    train, test = coarse(splits["train"][0]), coarse(splits["test"][0])
    for classifier in (LogisticRegression(C=0.1, max_iter=1000), KNeighborsClassifier(5)):
        classifier.fit(train, splits["train"][1])
        accuracy = classifier.score(test, splits["test"][1])
        # Of 400 guesses one in eight is right, with a standard deviation of 0.0165.
        assert abs(accuracy - 0.125) < 0.06


def test_the_motion_between_frames_tells_the_label(splits):
    videos, labels, _ = splits["test"]
    # In units of the typical speed, the largest change is the motion.
    changes = np.stack([motion(video) for video in videos]) / [1.4, 1.4, 0.14, 0.045]
    which = np.abs(changes).argmax(axis=1)
    forwards = changes[np.arange(len(changes)), which] > 0
    names = np.array([("left", "right"), ("up", "down"), NAMES[5:3:-1], ("shrink", "grow")])[
        which, forwards.astype(int)
    ]
    accuracy = np.mean(names == np.array(NAMES)[labels])
    assert accuracy > 0.98


def test_sizes_and_places_are_spread_over_the_picture(splits):
    videos = splits["train"][0] / 255
    means = videos.mean(axis=(0, 1))
    assert means.max() < 1.5 * means.min()
    areas = np.sqrt(videos.sum(axis=(2, 3)))
    assert np.quantile(areas, 0.9) > 1.5 * np.quantile(areas, 0.1)


def test_batches_are_as_the_meta_data_say(splits):
    dataset = data.get_dataset("moving_digits", batch_size=4, eval_batch_size=50)
    info = dataset.meta_data
    assert info.input_shape == (16, 32, 32, 1)
    assert list(info.label_names) == NAMES
    batch = next(iter(dataset.test_iter))
    videos, labels, _ = splits["test"]
    np.testing.assert_allclose(
        batch["inputs"][..., 0], videos[:50] / 255 * 2 - 1, rtol=0, atol=1e-6
    )
    np.testing.assert_array_equal(batch["label"], labels[:50])
    assert batch["inputs"].dtype == info.input_dtype
    assert batch["label"].dtype == np.int32


def test_videos_are_as_they_ever_were(splits):
    def digest(video, label, row):
        content = video.tobytes() + np.array([label, row], np.int32).tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    found = {
        split: [digest(*example) for example in zip(*(array[:3] for array in arrays), strict=True)]
        for split, arrays in splits.items()
    }
    assert found == {
        "train": ["acfb14494a0cb2a1", "f5a7b3c134aeff30", "df0570f159fe6bf2"],
        "validation": ["e6db2724ef5b585b", "6716f02f9855ba47", "2216bb6597088521"],
        "test": ["842de083920af6e5", "4ad23a23f785c3ac", "f2766f54dae3eb4b"],
    }
