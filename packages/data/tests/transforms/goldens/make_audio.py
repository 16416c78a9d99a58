"""Writes what others make of a recording, for tests to compare with: ``audio.npz``.

``python make_audio.py research/audioset/vggish/mel_features.py``, by hand, where librosa 0.11 is
installed, with that file of github.com/tensorflow/models or a copy of it. The recording is made by
the function here, from a seed, in the tests too.

- ``vggish``: the file's own log-mel spectrogram, 64 bands.
- ``librosa``: the same of 128 bands with a Hamming window; librosa's short-time Fourier transform,
  and the file's mel bands, since librosa's are straight over hertz.
"""

import pathlib
import runpy
import sys

import numpy as np

FILE = pathlib.Path(__file__).parent / "audio.npz"
SAMPLE_RATE = 16000


def waveform():
    """A rising tone that gets louder, a hum and noise, then nothing; float32 [6500] in [-1, 1]."""
    rng = np.random.default_rng(0)
    time = np.arange(6000) / SAMPLE_RATE
    tone = time / time[-1] * np.sin(2 * np.pi * (200 + 8000 * time) * time)
    samples = 0.7 * tone + 0.2 * np.sin(2 * np.pi * 100 * time) + 0.01 * rng.normal(size=6000)
    return np.concatenate([samples, np.zeros(500)]).astype(np.float32)


def vggish(features):
    """The spectrogram [39 64]."""
    return features["log_mel_spectrogram"](
        waveform().astype(np.float64),
        audio_sample_rate=SAMPLE_RATE,
        log_offset=0.01,
        num_mel_bins=64,
        lower_edge_hertz=125.0,
        upper_edge_hertz=7500.0,
    )


def librosa(features):
    """The spectrogram [39 128]."""
    import librosa

    # It puts the window into the middle of the transform's samples.
    around = np.pad(waveform().astype(np.float64), (512 - 400) // 2)
    transform = librosa.stft(
        around, n_fft=512, hop_length=160, win_length=400, window="hamming", center=False
    )
    weights = features["spectrogram_to_mel_matrix"](
        num_mel_bins=128,
        num_spectrogram_bins=257,
        audio_sample_rate=SAMPLE_RATE,
        lower_edge_hertz=125.0,
        upper_edge_hertz=7500.0,
    )
    return np.log(np.abs(transform).T @ weights + 0.01)


if __name__ == "__main__":
    features = runpy.run_path(sys.argv[1])
    arrays = {peer.__name__: peer(features).astype(np.float32) for peer in (vggish, librosa)}
    np.savez_compressed(FILE, **arrays)
