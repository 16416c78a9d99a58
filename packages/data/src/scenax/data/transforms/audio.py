"""Decoding recordings, windows of them, and their log-mel spectrograms as images.

Spectrograms are those of VGGish (Hershey et al., arXiv 1609.09430), on which AudioSet's models
stand: magnitudes, HTK's mel scale with triangles that are straight over mels and not normalized,
and the natural logarithm with an offset. AST (Gong et al., arXiv 2104.01778) and MBT (Nagrani et
al., arXiv 2107.00135) have 128 bands and a Hamming window. SpecAugment: Park et al., arXiv
1904.08779.

Checked against VGGish's own code, librosa's short-time Fourier transform and TensorFlow's
``tf.signal``, all within 1e-6. Letters: t frames of a spectrogram, m mel bands, f frequencies,
c channels.
"""

import dataclasses
import functools
from typing import Literal

import numpy as np
import scipy  # Its parts are imported when they are first used, which takes seconds.
from jaxtyping import Float, Float32

from scenax.data.examples import Example
from scenax.data.sources import media
from scenax.data.transforms.geometry import require


@dataclasses.dataclass(frozen=True)
class DecodeAudio:
    """Decodes ``audio``, a path, to ``waveform`` float32 ``[samples]`` and its ``sample_rate``.

    Channels are averaged, and what was recorded at another rate is resampled. Of a recording longer
    than ``seconds`` only its beginning is kept.
    """

    sample_rate: int = 16000
    seconds: float | None = None

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``waveform`` and ``sample_rate`` in the place of ``audio``.

        Raises:
          UnreadableError: if the file is damaged, or has no sound.
        """
        path = require(example, "audio", "DecodeAudio")
        waveform, rate = media.read_audio(path, self.sample_rate)
        if self.seconds is not None:
            waveform = waveform[: round(self.seconds * rate)]
        rest = {key: value for key, value in example.items() if key != "audio"}
        return rest | {"waveform": waveform, "sample_rate": rate}


def _window(waveform: np.ndarray, start: int, samples: int) -> np.ndarray:
    """That many samples from ``start`` on; zeros after the end."""
    part = waveform[start : start + samples]
    return np.pad(part, (0, samples - len(part)))


@dataclasses.dataclass(frozen=True)
class RandomWindow:
    """Takes ``samples`` of ``waveform`` from a random place; zeros follow a shorter one."""

    samples: int

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``waveform`` ``[samples]``."""
        waveform = require(example, "waveform", "RandomWindow")
        start = int(rng.integers(max(0, len(waveform) - self.samples) + 1))
        return example | {"waveform": _window(waveform, start, self.samples)}


@dataclasses.dataclass(frozen=True)
class CentralWindow:
    """Takes the central ``samples`` of ``waveform``; zeros follow a shorter one."""

    samples: int

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``waveform`` ``[samples]``."""
        waveform = require(example, "waveform", "CentralWindow")
        start = max(0, len(waveform) - self.samples) // 2
        return example | {"waveform": _window(waveform, start, self.samples)}


def log_mel_spectrogram(  # noqa: PLR0913  (all by name; each is a number of the definition)
    waveform: Float[np.ndarray, " samples"],
    sample_rate: int,
    *,
    window: int,
    hop: int,
    fft_size: int,
    mel_bins: int,
    lower_hz: float,
    upper_hz: float,
    log_offset: float = 0.01,
    shape: Literal["hann", "hamming"] = "hann",
) -> Float32[np.ndarray, "t m"]:
    """Returns log(magnitudes of mel bands + offset); frames are whole, nothing is padded.

    It has 1 + (samples - window) // hop frames. A band narrower than the distance of two
    frequencies of the Fourier transform may hold none of them, and is log(offset) throughout.

    Args:
      waveform: in [-1, 1].
      sample_rate: samples per second.
      window: samples of a frame.
      hop: samples from the beginning of a frame to that of the next.
      fft_size: samples of the Fourier transform; zeros follow the frame.
      mel_bins: how many bands.
      lower_hz: where the lowest begins.
      upper_hz: where the highest ends.
      log_offset: added before the logarithm.
      shape: of the window, periodic.

    Raises:
      ValueError: if there are fewer samples than a window has, or the numbers contradict one
        another.
    """
    if len(waveform) < window:
        raise ValueError(
            f"A spectrogram with a window of {window} samples needs as many at least, got "
            f"{len(waveform)}. Lengthen recordings with CentralWindow or RandomWindow."
        )
    if fft_size < window:
        raise ValueError(f"fft_size must be at least the window, {window} samples, got {fft_size}.")
    weights = mel_weights(sample_rate, fft_size, mel_bins, lower_hz, upper_hz)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, window)[::hop]
    # In float64: beside a loud band, float32's error would be seen in a quiet one.
    frames = frames * scipy.signal.get_window(shape, window)
    magnitudes = np.abs(np.asarray(scipy.fft.rfft(frames, fft_size)))
    return np.log(magnitudes @ weights + log_offset).astype(np.float32)


@functools.lru_cache(maxsize=8)
def mel_weights(
    sample_rate: int, fft_size: int, mel_bins: int, lower_hz: float, upper_hz: float
) -> Float[np.ndarray, "f m"]:
    """Returns how much of every frequency is in every mel band, by HTK's formula.

    A band is a triangle over mels, from the middle of the one before to that of the one after. The
    frequency 0 is in none. Do not write to it: it is made once.

    Raises:
      ValueError: if the bands are not between 0 and half the sample rate.
    """
    if not 0 <= lower_hz < upper_hz <= sample_rate / 2:
        raise ValueError(
            f"Mel bands need 0 <= lower_hz < upper_hz <= half the sample rate, {sample_rate / 2:g},"
            f" got {lower_hz:g} to {upper_hz:g}. Resample with DecodeAudio, or end them lower."
        )
    lowest, highest = _mel(np.array([lower_hz, upper_hz]))
    middles = np.linspace(lowest, highest, mel_bins + 2)
    mels = _mel(np.linspace(0, sample_rate / 2, fft_size // 2 + 1))[:, None]
    rising = (mels - middles[:-2]) / np.diff(middles)[:-1]
    falling = (middles[2:] - mels) / np.diff(middles)[1:]
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0
    weights.flags.writeable = False
    return weights


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(hertz / 700)


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Makes ``inputs`` float32 ``[t, m, 1]``, the log-mel spectrogram of ``waveform``.

    By default VGGish's, with frames of 25 ms every 10 ms and 64 bands from 125 to 7500 Hz. The
    Fourier transform's size is the next power of two.
    """

    mel_bins: int = 64
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    lower_hz: float = 125.0
    upper_hz: float = 7500.0
    log_offset: float = 0.01
    shape: Literal["hann", "hamming"] = "hann"

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` in the place of ``waveform``.

        Raises:
          ValueError: if the waveform is shorter than a frame, or its rate too low for the bands.
        """
        waveform = require(example, "waveform", "LogMel")
        rate = int(require(example, "sample_rate", "LogMel"))
        window = round(self.window_seconds * rate)
        spectrogram = log_mel_spectrogram(
            waveform,
            rate,
            window=window,
            hop=round(self.hop_seconds * rate),
            fft_size=1 << (window - 1).bit_length(),
            mel_bins=self.mel_bins,
            lower_hz=self.lower_hz,
            upper_hz=self.upper_hz,
            log_offset=self.log_offset,
            shape=self.shape,
        )
        rest = {key: value for key, value in example.items() if key != "waveform"}
        return rest | {"inputs": spectrogram[..., None]}


@dataclasses.dataclass(frozen=True)
class SpecAugment:
    """Masks stretches of time and of frequency of a spectrogram with its mean.

    Every mask's width is uniform from 0 to the largest, and its place uniform among those inside;
    masks may overlap. The paper's ``LD`` policy by default, without its time warping. A mask
    reaches at most over the whole spectrogram.
    """

    time_masks: int = 2
    time_width: int = 100
    frequency_masks: int = 2
    frequency_width: int = 27

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` float ``[t, m, c]`` masked.

        Raises:
          TypeError: if ``inputs`` are no spectrogram.
        """
        inputs = example["inputs"]
        if inputs.ndim != 3 or not np.issubdtype(inputs.dtype, np.floating):
            raise TypeError(
                f"SpecAugment needs inputs float [t, m, c], got {inputs.dtype} "
                f"{list(inputs.shape)}. Put it after LogMel."
            )
        masked, mean = inputs.copy(), inputs.mean()
        for axis, count, widest in (
            (0, self.time_masks, self.time_width),
            (1, self.frequency_masks, self.frequency_width),
        ):
            size = inputs.shape[axis]
            for _ in range(count):
                width = int(rng.integers(min(widest, size) + 1))
                start = int(rng.integers(size - width + 1))
                np.moveaxis(masked, axis, 0)[start : start + width] = mean
        return example | {"inputs": masked}
