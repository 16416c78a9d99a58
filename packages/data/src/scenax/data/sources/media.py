"""Frames of videos and samples of recordings, decoded with PyAV (the extra ``scenax-data[media]``).

A frame's index is its position in the order of showing, counted over the packets of a file: what
headers say of the number of frames is wrong where a phone has trimmed a video, and missing in mkv
and webm. Decoders run in the calling thread only, since a pipeline has threads enough.

Checked against frames and samples that the tests wrote without loss (PNG in mov, FFV1 in avi and
mkv, GIF by Pillow, WAV by the standard library). What is cut off is noticed where a format says
how long it is: mp4, mov, avi, gif, wav, flac, and mkv and webm beyond a second; the rest of an ogg
or mp3 that is cut between two packets reads as shorter. Letters: t frames, h w image.
"""

import bisect
import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Literal, SupportsIndex

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from scenax.data.reports import UnreadableError

Path = str | os.PathLike[str]


def video_length(path: Path) -> int:
    """Returns how many frames a video shows, exactly, without decoding them.

    Raises:
      FileNotFoundError: if there is no such file.
      ImportError: if PyAV is not installed.
      UnreadableError: if it is empty, cut off, or not a video.
    """
    return len(_timeline(path)[0])


def read_clip(
    path: Path, frame_indices: Sequence[SupportsIndex] | Integer[np.ndarray, " t"]
) -> UInt8[np.ndarray, "t h w 3"]:
    """Returns frames of a video in RGB, turned as they are to be shown.

    It starts to decode at the last key frame before each, so that late frames come as fast as
    early ones.

    Args:
      path: of the video.
      frame_indices: which, from 0; in any order, repeated or not, at least one.

    Raises:
      FileNotFoundError: if there is no such file.
      ImportError: if PyAV is not installed.
      IndexError: if the video has no such frame.
      UnreadableError: if it is empty, cut off, damaged, or not a video.
      ValueError: if there are no ``frame_indices``.
    """
    if not len(frame_indices):
        raise ValueError("frame_indices is empty: ask for at least one frame.")
    wanted = sorted({int(index) for index in frame_indices})
    times, keys = _timeline(path)
    if wanted[0] < 0 or wanted[-1] >= len(times):
        raise IndexError(
            f"{os.fspath(path)} has {len(times)} frames, 0 to {len(times) - 1}; asked for are "
            f"{wanted[0]} to {wanted[-1]}."
        )
    found = _decoded(path, wanted, times, keys)
    if len(found) < len(wanted):
        # A file whose key frames cannot be relied on: from its beginning.
        found = _decoded(path, wanted, times, [0])
    missing = [index for index in wanted if index not in found]
    if missing:
        raise UnreadableError(
            f"{os.fspath(path)} is damaged: frame {missing[0]} of {len(times)} cannot be decoded. "
            "Copy or convert the video anew."
        )
    if len({frame.shape for frame in found.values()}) > 1:
        raise UnreadableError(
            f"{os.fspath(path)} changes its size between the frames {wanted[0]} and {wanted[-1]}. "
            "Convert it to one size."
        )
    return np.stack([found[int(index)] for index in frame_indices])


def read_audio(
    path: Path, sample_rate: int | None = None
) -> tuple[Float32[np.ndarray, " samples"], int]:
    """Returns a recording as one channel, the mean of all, in [-1, 1], and its samples per second.

    Args:
      path: of the recording, or of a video with sound.
      sample_rate: resample to this, in samples per second; as recorded if not given.

    Raises:
      FileNotFoundError: if there is no such file.
      ImportError: if PyAV is not installed.
      UnreadableError: if it is empty, cut off, damaged, or has no sound.
      ValueError: if ``sample_rate`` is not positive.
    """
    if sample_rate is not None and sample_rate < 1:
        raise ValueError(f"sample_rate is in samples per second, at least 1, got {sample_rate}.")
    with _opened(path, "audio") as (container, stream):
        rate = sample_rate or stream.rate
        resampler = _av().AudioResampler(format="fltp", rate=rate)
        decoded, chunks = 0, []
        for frame in container.decode(stream):
            decoded += frame.samples
            chunks += resampler.resample(frame)
        if not decoded:
            raise UnreadableError(f"{os.fspath(path)} has no samples. Delete it.")
        # Others estimate their length, and say more than there is of intact files.
        if container.format.name == "flac" and stream.duration:
            _check_whole(path, decoded, round(stream.duration * stream.time_base * stream.rate))
        chunks += resampler.resample(None)
    mono = [chunk.to_ndarray().mean(axis=0, dtype=np.float32) for chunk in chunks]
    return np.concatenate(mono), rate


def _timeline(path: Path) -> tuple[list[int | None], list[int]]:
    """Returns the time of every frame in the order of showing, and which of them are key frames.

    Where the file does not give every frame a time of its own, the times are None and the only key
    frame is the first.
    """
    with _opened(path, "video") as (container, stream):
        frames, packets, end = [], 0, 0.0
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index or not packet.size:
                continue
            packets += 1
            if not packet.is_discard and not _is_hidden(packet, stream):
                frames.append((packet.pts, packet.is_keyframe))
        container_name = container.format.name
        if container_name != "avi":  # It counts frames to be repeated, which have no packet.
            _check_whole(path, packets, stream.frames)
        if container_name == "matroska,webm" and container.duration:
            # Its sound may end a little earlier than it says.
            _check_whole(path, end + 1, container.duration / 1e6)
    if not frames:
        raise UnreadableError(f"{os.fspath(path)} has no frames. Delete it.")
    times = [time for time, _ in frames]
    if None in times or len(set(times)) < len(times):
        return [None] * len(frames), [0]
    frames.sort()
    return [time for time, _ in frames], [0] + [i for i, (_, key) in enumerate(frames) if key and i]


def _decoded(
    path: Path, wanted: Sequence[int], times: Sequence[int | None], keys: Sequence[int]
) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
    """Returns the frames of ascending indices by index, those that can be decoded."""
    index_of = {} if None in times else {time: index for index, time in enumerate(times)}
    found = {}
    with _opened(path, "video") as (container, stream):
        frames, position = iter(()), -1
        for index in wanted:
            key = keys[bisect.bisect_right(keys, index) - 1]
            if position < 0 or key > position + 1:
                if key:
                    container.seek(times[key], stream=stream)
                frames = container.decode(stream)
            for frame in frames:
                # After a jump come frames from before it, in the order of coding.
                position = index_of.get(frame.pts, position) if index_of else position + 1
                if position == index and not frame.is_corrupt:
                    picture = frame.to_ndarray(format="rgb24")
                    # The rotation is in degrees counter-clockwise.
                    found[index] = np.rot90(picture, k=round(frame.rotation / 90))
                if position >= index:
                    break
    return found


def _is_hidden(packet: Any, stream: Any) -> bool:
    """Returns whether a packet only serves others: VP8 says so in a bit, others put such in one."""
    return stream.codec_context.name.startswith("vp8") and not bytes(packet)[0] & 0x10


@contextlib.contextmanager
def _opened(path: Path, kind: Literal["video", "audio"]) -> Iterator[tuple[Any, Any]]:
    """Opens a file at its best stream of a kind."""
    av = _av()
    name = os.path.abspath(path)
    _check_ends(name)
    try:
        # A file may be a list of others: it may not name any in the network.
        with av.open(name, options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.best(kind)
            if stream is None or stream.codec_context is None:
                raise UnreadableError(f"{name} has no {kind} that can be decoded.")
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            yield container, stream
    except UnreadableError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableError(
            f"{name} cannot be decoded: {error}. It is cut off, damaged or not {kind}: copy or "
            "convert it anew."
        ) from error


def _check_ends(path: str) -> None:
    """Checks what FFmpeg passes over in silence: the length that RIFF says, the end of a GIF."""
    with open(path, "rb") as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 64))
        tail = file.read()
    if not size:
        raise UnreadableError(f"{path} is empty (0 bytes). Copy it anew, or delete it.")
    if head.startswith(b"RIFF") and len(head) == 8:
        (length,) = struct.unpack("<I", head[4:])
        # Live recordings have the largest numbers there; some programs count a header too many.
        if length < 0x7FFF0000:
            _check_whole(path, size + 64, length + 8)
    if head.startswith(b"GIF8") and not tail.rstrip(b"\0\r\n ").endswith(b";"):
        raise UnreadableError(f"{path} is cut off: a GIF ends in ';'. Copy it anew.")


def _check_whole(path: Path, found: float, promised: float) -> None:
    if found < promised:
        raise UnreadableError(
            f"{os.fspath(path)} is cut off: it has {found:g} of {promised:g}. Copy it anew."
        )


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            "Videos and recordings are decoded with PyAV, which is not installed: "
            'pip install "scenax-data[media]".'
        ) from error
    return av
