import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn import datasets as sklearn_datasets
from sklearn.metrics import mutual_info_score

from scenax import data
from scenax.data.datasets import digits
from scenax.data.sources import tfds as tfds_source


@pytest.fixture(scope="module")
def splits():
    """Arrays of every split by their names."""
    builder = tfds_source.prepare("digit_tones")
    found = {}
    for split in ("train", "validation", "test"):
        source = tfds_source.open_lazily(builder, split, encoded=["image"])
        examples = [source[index] for index in range(len(source))]
        for example in examples:
            example["image"] = np.asarray(Image.open(io.BytesIO(example["image"])))
        found[split] = {name: np.stack([e[name] for e in examples]) for name in examples[0]}
    return found


def test_a_split_has_its_own_digits_only(splits):
    bunch = sklearn_datasets.load_digits()
    for split, arrays in splits.items():
        rows = arrays["sources"][:, 0]
        assert {digits.split_of(bunch.images[row]) for row in rows} == {split}
        np.testing.assert_array_equal(arrays["digit"], bunch.target[rows])
        assert np.abs(arrays["image"] / 255 * 16 - bunch.images[rows]).max() < 0.04
    assert [len(arrays["label"]) for arrays in splits.values()] == [2000, 200, 500]


def test_each_alone_tells_nothing_and_both_tell_all(splits):
    for arrays in splits.values():
        label, digit, tone = arrays["label"], arrays["digit"], arrays["tone"]
        for alone in (digit, tone):
            table = np.zeros((10, 10), int)
            np.add.at(table, (label, alone), 1)
            assert np.all(table == len(label) // 100)
            assert mutual_info_score(label, alone) == pytest.approx(0, abs=1e-12)
        assert mutual_info_score(label, 10 * digit + tone) == pytest.approx(np.log(10))
        for d, t, n in zip(digit, tone, label, strict=True):
            assert str(d + t)[-1] == str(n)


def test_the_pitch_is_the_peak_of_the_spectrum(splits):
    for arrays in splits.values():
        rates = set(arrays["sample_rate"])
        assert rates == {8000}
        spectra = np.abs(np.fft.rfft(arrays["waveform"].astype(float), axis=1))
        peaks = np.fft.rfftfreq(arrays["waveform"].shape[1], 1 / 8000)[spectra.argmax(axis=1)]
        scale = 440 * 2.0 ** (np.arange(10) * 2 / 12)  # Whole tones upwards from A4.
        nearest = np.abs(np.log(peaks[:, None] / scale)).argmin(axis=1)
        np.testing.assert_array_equal(nearest, arrays["tone"])


def test_loudness_and_phase_are_spread(splits):
    waveforms = splits["train"]["waveform"] / 2**15
    loudness = waveforms.std(axis=1) * np.sqrt(2)
    assert 0.19 < loudness.min() < 0.25
    assert 0.75 < loudness.max() < 0.82
    assert np.abs(waveforms).max() < 1
    assert np.mean(waveforms[:, 0] > 0) == pytest.approx(0.5, abs=0.05)


def test_batches_have_pictures_and_sounds(splits):
    dataset = data.get_dataset("digit_tones", batch_size=4, eval_batch_size=50)
    batch = next(iter(dataset.test_iter))
    arrays = splits["test"]
    image, waveform = batch["inputs"]["image"], batch["inputs"]["waveform"]
    np.testing.assert_allclose(image[..., 0], arrays["image"][:50] / 255 * 2 - 1, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(waveform, arrays["waveform"][:50] / 2**15)
    assert image.dtype == waveform.dtype == np.float32
    assert image.shape[1:] == dataset.meta_data.input_shape
    np.testing.assert_array_equal(batch["label"], arrays["label"][:50])
    assert next(dataset.train_iter)["inputs"]["waveform"].shape == (4, 4000)


def test_reading_does_not_import_tensorflow(splits):
    program = """
import sys
import scenax.data
from scenax.data.datasets import digit_tones
next(scenax.data.get_dataset("digit_tones", batch_size=8).train_iter)
sys.exit("tensorflow" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_examples_are_as_they_ever_were(splits):
    def digest(arrays, index):
        names = ("image", "waveform", "label", "sources")
        content = b"".join(arrays[name][index].astype(np.int32).tobytes() for name in names)
        return hashlib.sha256(content).hexdigest()[:16]

    found = {split: [digest(arrays, i) for i in range(3)] for split, arrays in splits.items()}
    assert found == {
        "train": ["2df34b3740517ca0", "7a4e11d565be456f", "6e7651039cd46cba"],
        "validation": ["cf984b95a31832cb", "f3e22eafb73ac62d", "0f5b675903755acc"],
        "test": ["6b1069d40359bdad", "bdd08dbcfbdda06f", "d243f924d805410b"],
    }
