"""Spectrograms against VGGish's own code, librosa and TensorFlow; the rest against slices."""

import pathlib
import runpy
import wave

import numpy as np
import pytest

from scenax.data.transforms import from_plain, to_plain
from scenax.data.transforms.audio import (
    CentralWindow,
    DecodeAudio,
    LogMel,
    RandomWindow,
    SpecAugment,
    log_mel_spectrogram,
    mel_weights,
)

MAKE = runpy.run_path(str(pathlib.Path(__file__).parent / "goldens" / "make_audio.py"))
WAVEFORM, GOLDEN = MAKE["waveform"](), np.load(MAKE["FILE"])


def generator(seed=0):
    return np.random.default_rng(seed)


def write_wav(path, samples, rate=8000):
    """Writes samples of 16 bits, of shape [samples], with the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return str(path)


def test_a_recording_is_decoded_and_cut(tmp_path):
    pytest.importorskip("av")
    samples = generator().integers(-32768, 32768, 8000)
    example = {"audio": write_wav(tmp_path / "a.wav", samples), "label": 3}
    found = DecodeAudio(8000)(example, generator())
    assert found.keys() == {"waveform", "sample_rate", "label"}
    np.testing.assert_array_equal(found["waveform"], np.float32(samples / 32768))
    assert found["waveform"].dtype == np.float32
    assert found["sample_rate"] == 8000
    cut = DecodeAudio(8000, seconds=0.25)(example, generator())["waveform"]
    np.testing.assert_array_equal(cut, found["waveform"][:2000])
    long = DecodeAudio(8000, seconds=9)(example, generator())["waveform"]
    assert len(long) == 8000
    assert abs(len(DecodeAudio(4000)(example, generator())["waveform"]) - 4000) <= 1


def test_a_missing_recording_is_asked_for():
    with pytest.raises(KeyError, match="DecodeAudio needs 'audio', and the example has label"):
        DecodeAudio()({"label": 3}, generator())


def test_random_windows_reach_every_place():
    example = {"waveform": np.arange(10, dtype=np.float32)}
    starts = []
    for seed in range(300):
        found = RandomWindow(7)(example, generator(seed))["waveform"]
        np.testing.assert_array_equal(np.diff(found), np.ones(6))
        starts.append(int(found[0]))
    assert set(starts) == {0, 1, 2, 3}
    assert min(starts.count(start) for start in range(4)) > 50
    same = [RandomWindow(7)(example, generator(8))["waveform"] for _ in range(2)]
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize(("samples", "start"), [(4, 3), (5, 2), (10, 0), (1, 4)])
def test_central_windows_have_as_much_on_either_side(samples, start):
    found = CentralWindow(samples)({"waveform": np.arange(10, dtype=np.float32)}, generator())
    np.testing.assert_array_equal(found["waveform"], np.arange(start, start + samples))


@pytest.mark.parametrize("window", [RandomWindow(6), CentralWindow(6)])
def test_zeros_follow_a_short_recording(window):
    found = window({"waveform": np.float32([1, 2, 3])}, generator())["waveform"]
    np.testing.assert_array_equal(found, [1, 2, 3, 0, 0, 0])
    assert found.dtype == np.float32


VGGISH = {"window": 400, "hop": 160, "fft_size": 512, "lower_hz": 125, "upper_hz": 7500}


def test_spectrograms_are_vggishs():
    found = log_mel_spectrogram(WAVEFORM, 16000, **VGGISH, mel_bins=64)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, GOLDEN["vggish"], atol=1e-6)
    # The recording has loud and silent places.
    assert found.min() == pytest.approx(np.log(0.01), abs=1e-6)
    assert found.max() > 4


def test_spectrograms_are_of_librosas_transform():
    found = log_mel_spectrogram(WAVEFORM, 16000, **VGGISH, mel_bins=128, shape="hamming")
    np.testing.assert_allclose(found, GOLDEN["librosa"], atol=1e-6)


@pytest.mark.parametrize(
    ("rate", "window", "hop", "fft_size", "mel_bins", "band"),
    [
        (16000, 400, 160, 512, 128, (125.0, 7500.0)),
        (8000, 200, 80, 256, 40, (60.0, 4000.0)),
        (16000, 400, 123, 400, 80, (20.0, 8000.0)),
        # TensorFlow's windows are periodic only where their length is even, VGGish's always.
        (22050, 552, 220, 1024, 64, (50.0, 11025.0)),
    ],
)
def test_spectrograms_are_tensorflows(rate, window, hop, fft_size, mel_bins, band):
    import tensorflow as tf

    stft = tf.signal.stft(tf.constant(WAVEFORM, tf.float64), window, hop, fft_size)
    weights = tf.signal.linear_to_mel_weight_matrix(
        mel_bins, fft_size // 2 + 1, rate, *band, dtype=tf.float64
    )
    np.testing.assert_allclose(
        mel_weights(rate, fft_size, mel_bins, *band), weights.numpy(), atol=1e-9
    )
    expected = tf.math.log(tf.abs(stft) @ weights + 1e-3).numpy()
    found = log_mel_spectrogram(
        WAVEFORM,
        rate,
        window=window,
        hop=hop,
        fft_size=fft_size,
        mel_bins=mel_bins,
        lower_hz=band[0],
        upper_hz=band[1],
        log_offset=1e-3,
    )
    assert found.shape == expected.shape == (1 + (6500 - window) // hop, mel_bins)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_tone_is_in_the_band_about_its_frequency():
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000).astype(np.float32)
    found = log_mel_spectrogram(tone, 16000, **VGGISH, mel_bins=64)
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)  # noqa: E731  (HTK's own way to say it)
    middles = np.linspace(mel(125), mel(7500), 66)[1:-1]
    assert set(found.argmax(axis=1)) == {np.abs(middles - mel(1000)).argmin()}


def test_examples_get_the_spectrogram_as_inputs():
    example = {"waveform": WAVEFORM, "sample_rate": 16000, "label": 1}
    found = LogMel()(example, generator())
    assert found.keys() == {"inputs", "sample_rate", "label"}
    np.testing.assert_allclose(found["inputs"], GOLDEN["vggish"][..., None], atol=1e-6)
    wide = LogMel(mel_bins=128, shape="hamming")(example, generator())["inputs"]
    np.testing.assert_allclose(wide, GOLDEN["librosa"][..., None], atol=1e-6)
    # Ten seconds are 998 whole frames.
    long = example | {"waveform": np.zeros(160000, np.float32)}
    assert LogMel()(long, generator())["inputs"].shape == (998, 64, 1)
    # At another rate the frames take as long; 441 samples go into 512.
    other = example | {"sample_rate": 17640}
    expected = log_mel_spectrogram(
        WAVEFORM, 17640, mel_bins=64, **VGGISH | {"window": 441, "hop": 176}
    )
    np.testing.assert_array_equal(LogMel()(other, generator())["inputs"][..., 0], expected)


def test_what_cannot_be_a_spectrogram_is_named():
    with pytest.raises(ValueError, match="window of 400 samples needs as many at least, got 399"):
        log_mel_spectrogram(WAVEFORM[:399], 16000, **VGGISH, mel_bins=64)
    assert log_mel_spectrogram(WAVEFORM[:400], 16000, **VGGISH, mel_bins=64).shape == (1, 64)
    with pytest.raises(ValueError, match="at least the window, 400 samples, got 256"):
        log_mel_spectrogram(WAVEFORM, 16000, **VGGISH | {"fft_size": 256}, mel_bins=64)
    low = {"waveform": WAVEFORM, "sample_rate": 8000}
    with pytest.raises(ValueError, match=r"half the sample rate, 4000, got 125 to 7500\. Re"):
        LogMel()(low, generator())
    with pytest.raises(ValueError, match="got 300 to 200"):
        mel_weights(8000, 256, 20, 300.0, 200.0)


def masked_runs(mask):
    """Lengths of the runs of ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return edges[1::2] - edges[::2]


def masked(transform, seed=0, shape=(60, 40, 1)):
    """Which times and which frequencies are masked, of noise."""
    inputs = generator(99).normal(size=shape).astype(np.float32)
    before = inputs.copy()
    found = transform({"inputs": inputs, "label": 1}, generator(seed))["inputs"]
    np.testing.assert_array_equal(inputs, before)
    changed = (found != inputs)[..., 0]
    np.testing.assert_array_equal(found[changed], inputs.mean())
    times, frequencies = changed.all(axis=1), changed.all(axis=0)
    np.testing.assert_array_equal(changed, times[:, None] | frequencies[None])
    return times, frequencies


def test_masks_have_every_width_and_place():
    widths, places = [], np.zeros(60)
    for seed in range(600):
        times, frequencies = masked(SpecAugment(1, 9, 0, 0), seed)
        assert not frequencies.any()
        runs = masked_runs(times)
        assert len(runs) <= 1
        widths.append(int(times.sum()))
        places += times
    counts = np.bincount(widths, minlength=10)
    assert len(counts) == 10
    np.testing.assert_allclose(counts, 60, atol=4.5 * np.sqrt(60))
    assert places.min() > 0


def test_masks_are_as_many_as_asked():
    most = {"time": 0, "frequency": 0}
    for seed in range(200):
        times, frequencies = masked(SpecAugment(3, 4, 2, 5), seed)
        assert times.sum() <= 12
        assert frequencies.sum() <= 10
        most["time"] = max(most["time"], len(masked_runs(times)))
        most["frequency"] = max(most["frequency"], len(masked_runs(frequencies)))
    assert most == {"time": 3, "frequency": 2}


def test_masks_are_a_function_of_the_generator():
    for seed in (1, 2):
        np.testing.assert_array_equal(
            np.concatenate(masked(SpecAugment(), seed)), np.concatenate(masked(SpecAugment(), seed))
        )
    several = {masked(SpecAugment(), seed)[1].tobytes() for seed in range(5)}
    assert len(several) > 1


def test_a_mask_may_cover_all_and_no_more():
    sums = [masked(SpecAugment(1, 100, 0, 0), seed, (4, 3, 2))[0].sum() for seed in range(60)]
    assert set(sums) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("inputs", [np.zeros((4, 3), np.float32), np.zeros((4, 3, 1), np.uint8)])
def test_what_is_no_spectrogram_is_named(inputs):
    with pytest.raises(TypeError, match=r"needs inputs float \[t, m, c\], got .*after LogMel"):
        SpecAugment()({"inputs": inputs}, generator())


def test_they_can_be_written_to_a_configuration():
    transforms = [DecodeAudio(8000, 1.5), CentralWindow(9), LogMel(shape="hamming"), SpecAugment()]
    assert from_plain(to_plain(transforms)) == transforms
