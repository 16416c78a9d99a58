"""Files are written here without loss, or by other libraries, so that every value is known."""

import builtins
import struct
import wave

import numpy as np
import pytest
from PIL import Image

from scenax.data.reports import UnreadableError
from scenax.data.sources.media import read_audio, read_clip, video_length

av = pytest.importorskip("av")

FRAMES = np.random.default_rng(0).integers(0, 256, (30, 16, 32, 3), np.uint8)
# Ending, codec, its pixels. FFV1's frames are key frames every ten, PNG's all.
LOSSLESS = [("avi", "ffv1", "bgr0"), ("mkv", "ffv1", "bgr0"), ("mov", "png", "rgb24")]


def write_video(path, frames=FRAMES, codec="png", pixels="rgb24", **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.gop_size, stream.bit_rate = 10, 4_000_000
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format=pixels)))
        container.mux(stream.encode())
    return path


def key_frames(path):
    with av.open(str(path)) as container:
        return [packet.is_keyframe for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(("ending", "codec", "pixels"), LOSSLESS)
def test_frames_come_exactly_as_asked(tmp_path, ending, codec, pixels):
    path = write_video(tmp_path / f"é 🐈.{ending}", codec=codec, pixels=pixels)
    assert sum(key_frames(path)) == (30 if codec == "png" else 3)
    assert video_length(path) == 30
    for indices in ([0], [29], [3, 4, 5], [25, 2, 11, 2], range(30), np.array([19, 20])):
        found = read_clip(path, indices)
        np.testing.assert_array_equal(found, FRAMES[list(indices)])
        assert found.dtype == np.uint8


# H.264 and MPEG-4 lose detail, not the mean grey of a frame; frames are coded out of order.
GREY = np.repeat(np.arange(10, 250, 4, dtype=np.uint8), 32 * 32 * 3).reshape(60, 32, 32, 3)


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [
        ("mp4", "libx264", {"x264-params": "bframes=3:b-adapt=0:keyint=15:scenecut=0"}),
        ("mkv", "libx264", {"x264-params": "bframes=3:b-adapt=0:keyint=15:open-gop=1:scenecut=0"}),
        ("avi", "mpeg4", {"bf": "2"}),
        ("webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    ],
)
def test_frames_are_counted_as_they_are_shown(tmp_path, ending, codec, options):
    path = write_video(tmp_path / f"a.{ending}", GREY, codec, "yuv420p", **options)
    assert video_length(path) == 60
    for indices in ([59, 0, 31], [14, 15, 16, 44], list(range(60))):
        means = read_clip(path, indices).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(means, 10 + 4 * np.array(indices), atol=1.9)


def copy_packets(path, target, shift=0, **options):
    """Copies a video's packets as they are, ``shift`` frames earlier."""
    with av.open(str(path)) as old, av.open(str(target), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.pts -= shift * packet.duration
                packet.dts -= shift * packet.duration
                packet.stream = stream
                new.mux(packet)
    return target


def test_frames_that_only_serve_others_do_not_count(tmp_path):
    path = write_video(tmp_path / "a.webm", GREY, "libvpx", "yuv420p")
    with av.open(str(path)) as old, av.open(str(tmp_path / "b.webm"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for i, packet in enumerate(old.demux(video=0)):
            if packet.size:
                content = bytearray(bytes(packet))
                if i == 10:
                    content[0] &= ~0x10  # VP8's show_frame, RFC 6386, section 9.1.
                copied = av.Packet(bytes(content))
                copied.pts, copied.dts, copied.time_base = packet.pts, packet.dts, packet.time_base
                copied.stream, copied.is_keyframe = stream, packet.is_keyframe
                new.mux(copied)
    assert video_length(tmp_path / "b.webm") == 59
    means = read_clip(tmp_path / "b.webm", [9, 10, 58]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, 10 + 4 * np.array([9, 11, 59]), atol=1.9)


def test_frames_that_a_phone_has_trimmed_do_not_count(tmp_path):
    options = {"x264-params": "keyint=15:bframes=2:scenecut=0"}
    path = write_video(tmp_path / "a.mp4", GREY, "libx264", "yuv420p", **options)
    path = copy_packets(path, tmp_path / "b.mp4", shift=5, avoid_negative_ts="disabled")
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 60  # The header counts what is not shown.
    assert video_length(path) == 55
    means = read_clip(path, [0, 30, 54]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(means, 10 + 4 * np.array([5, 35, 59]), atol=1.9)


def test_a_gif_of_pillow_is_read(tmp_path):
    colours = [(40 * i, 255 - 40 * i, 7) for i in range(6)]
    first, *rest = [Image.new("RGB", (20, 10), colour) for colour in colours]
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest, duration=100)
    assert video_length(tmp_path / "a.gif") == 6
    found = read_clip(tmp_path / "a.gif", [5, 0, 3])
    assert found.shape == (3, 10, 20, 3)
    assert found[:, 4, 4].tolist() == [list(colours[i]) for i in (5, 0, 3)]


def test_late_frames_are_decoded_from_the_key_frame_before(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mkv", codec="ffv1", pixels="bgr0")
    decoded = []
    open_file = av.open

    class Counting:
        def __init__(self, container):
            self.container = container

        def __getattr__(self, name):
            return getattr(self.container, name)

        def __enter__(self):
            self.container.__enter__()
            return self

        def __exit__(self, *error):
            return self.container.__exit__(*error)

        def decode(self, stream):
            for frame in self.container.decode(stream):
                decoded.append(frame.pts)
                yield frame

    monkeypatch.setattr(av, "open", lambda *args, **kw: Counting(open_file(*args, **kw)))
    np.testing.assert_array_equal(read_clip(path, [1, 22]), FRAMES[[1, 22]])
    assert decoded == [0, 100, 2000, 2100, 2200]  # In thousandths of a second, ten a second.


def turn(path, matrix):
    """Writes another matrix into the header of a track, as a phone that is held upright does."""
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    content = path.read_bytes()
    at = content.index(plain, content.index(b"tkhd"))
    a, b, c, d = (value << 16 for value in matrix)
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:at] + turned + content[at + len(plain) :])


# QuickTime: x' = a x + c y, y' = b x + d y, with y downwards.
@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((0, 1, -1, 0), lambda f: f[::-1].swapaxes(0, 1)),  # Right goes down: clockwise.
        ((0, -1, 1, 0), lambda f: f[:, ::-1].swapaxes(0, 1)),
        ((-1, 0, 0, -1), lambda f: f[::-1, ::-1]),
    ],
)
def test_a_turned_video_is_shown_upright(tmp_path, matrix, turned):
    path = write_video(tmp_path / "a.mov")
    turn(path, matrix)
    np.testing.assert_array_equal(read_clip(path, [7])[0], turned(FRAMES[7]))


def test_a_frame_that_is_not_there_is_named(tmp_path):
    path = write_video(tmp_path / "a.mov")
    for indices in ([30], [-1, 3]):
        with pytest.raises(IndexError, match=r"a\.mov has 30 frames, 0 to 29; asked for"):
            read_clip(path, indices)
    with pytest.raises(ValueError, match="at least one frame"):
        read_clip(path, [])


@pytest.mark.parametrize(
    ("ending", "codec", "pixels"),
    [*LOSSLESS, ("mp4", "libx264", "yuv420p"), ("gif", "gif", "rgb8")],
)
def test_a_video_that_is_cut_off_is_named(tmp_path, ending, codec, pixels):
    path = write_video(tmp_path / f"a.{ending}", codec=codec, pixels=pixels)
    assert video_length(path) == 30
    whole = path.read_bytes()
    for share in (0.1, 0.3, 0.6):
        path.write_bytes(whole[: int(share * len(whole))])
        for read in (video_length, lambda name: read_clip(name, [0])):
            with pytest.raises(UnreadableError, match=rf"a\.{ending} (is cut off|cannot be)"):
                read(path)


def test_a_video_whose_header_comes_first_is_named_when_cut_off(tmp_path):
    path = write_video(tmp_path / "a.mov")
    path = copy_packets(path, tmp_path / "b.mov", movflags="faststart")
    assert video_length(path) == 30
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UnreadableError, match=r"b\.mov is cut off: it has \d+ of 30"):
        read_clip(path, [0])


def test_a_damaged_frame_is_named(tmp_path):
    path = write_video(tmp_path / "a.mov")
    content = bytearray(path.read_bytes())
    starts = [i for i in range(len(content)) if content[i : i + 8] == b"\x89PNG\r\n\x1a\n"]
    content[starts[4] : starts[4] + 60] = bytes(60)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_clip(path, [20]), FRAMES[20:21])
    with pytest.raises(UnreadableError, match=r"a\.mov (is damaged|cannot be decoded)"):
        read_clip(path, [4])


def test_a_frame_that_a_decoder_has_patched_up_is_named(tmp_path):
    frames = np.stack([np.roll(FRAMES[0].repeat(4, 0).repeat(4, 1), 3 * i, 1) for i in range(20)])
    options = {"x264-params": "bframes=0:scenecut=0"}
    path = write_video(tmp_path / "a.mp4", frames, "libx264", "yuv420p", **options)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][8]
        start, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(content)
    assert len(read_clip(path, [7, 15])) == 2
    with pytest.raises(UnreadableError, match=r"a\.mp4 is damaged: frame 8 of 20"):
        read_clip(path, [7, 8])


READERS = [video_length, lambda path: read_clip(path, [0]), read_audio]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "content", [b"", b"no such thing" * 99, b"RIFF", b"#EXTM3U\n/etc/passwd\n"]
)
def test_what_is_no_media_is_named(tmp_path, read, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UnreadableError, match=r"a\.mp4 (is empty|is cut off|cannot be decoded)"):
        read(tmp_path / "a.mp4")


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_is_missing(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"a\.mp4"):
        read(tmp_path / "a.mp4")


def test_the_other_kind_is_asked_for(tmp_path):
    with pytest.raises(UnreadableError, match=r"a\.mov has no audio"):
        read_audio(write_video(tmp_path / "a.mov"))
    with pytest.raises(UnreadableError, match=r"a\.wav has no video"):
        video_length(write_wav(tmp_path / "a.wav", np.zeros((9, 1), np.int16)))


@pytest.mark.parametrize("read", READERS)
def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch, read):
    load = builtins.__import__

    def without(name, *args, **options):
        if name == "av":
            raise ImportError(name)
        return load(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'PyAV.*pip install "scenax-data\[media\]"'):
        read(tmp_path / "a.mp4")


def write_wav(path, samples, rate=8000):
    """Writes samples of 16 bits, of shape [samples, channels], with the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def test_samples_are_shares_of_the_largest(tmp_path):
    samples = np.array([[0], [16384], [-32768], [32767], [1]])
    found, rate = read_audio(write_wav(tmp_path / "é.wav", samples))
    assert rate == 8000
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32([0, 0.5, -1, 32767 / 32768, 1 / 32768]))


def test_channels_are_averaged(tmp_path):
    samples = np.array([[16384, 0], [16384, 16384], [-32768, 32767]])
    found, _ = read_audio(write_wav(tmp_path / "a.wav", samples))
    np.testing.assert_array_equal(found, np.float32([0.25, 0.5, -0.5 / 32768]))


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 48000])
def test_a_tone_stays_the_tone_at_another_rate(tmp_path, rate):
    tone = 20000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    found, found_rate = read_audio(write_wav(tmp_path / "a.wav", tone.round()[:, None]), rate)
    assert found_rate == rate
    assert abs(len(found) - rate) <= 1
    wanted = 20000 / 32768 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / rate)
    inner = slice(rate // 20, -rate // 20)  # Filters look beyond the ends.
    np.testing.assert_allclose(found[inner], wanted[inner], atol=3e-3)


def test_a_rate_is_positive(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.zeros((9, 1)))
    with pytest.raises(ValueError, match=r"sample_rate .* at least 1, got 0"):
        read_audio(path, 0)


@pytest.mark.parametrize(
    ("ending", "codec"), [("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libopus")]
)
def test_other_formats_have_the_same_sound(tmp_path, ending, codec):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    path = tmp_path / f"a.{ending}"
    write_audio(path, codec, tone)
    found, rate = read_audio(path)
    assert rate == 48000
    assert abs(len(found) - 48000) < 1200
    inner = slice(4800, 43200)
    gain = found[inner].std() / tone[inner].std()
    assert 0.9 < gain < 1.1  # LAME makes everything 5% quieter.
    # A sample too early or too late would be 0.03 off.
    np.testing.assert_allclose(found[inner] / gain, tone[inner], atol=0.01)


def write_audio(path, codec, samples):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        resampler = av.AudioResampler(
            stream.format.name, "mono", 48000, stream.codec_context.frame_size or 1024
        )
        pcm = np.int16((samples * 32768).round())[None]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        frame.sample_rate = 48000
        for part in resampler.resample(frame) + resampler.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode())


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_recording_that_is_cut_off_is_named(tmp_path, ending):
    noise = np.random.default_rng(0).uniform(-1, 1, 48000) * 0.5
    path = tmp_path / f"a.{ending}"
    if ending == "wav":
        write_wav(path, (noise * 32768)[:, None])
    else:
        write_audio(path, "flac", noise)
    assert len(read_audio(path)[0]) == 48000
    whole = path.read_bytes()
    for share in (0.01, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UnreadableError, match=rf"a\.{ending} (is cut off|cannot be decoded)"):
            read_audio(path)


def test_a_recording_that_is_cut_off_between_packets_is_named(tmp_path):
    write_audio(tmp_path / "a.flac", "flac", np.linspace(-0.5, 0.5, 48000))
    with av.open(str(tmp_path / "a.flac")) as container:
        places = [packet.pos for packet in container.demux(audio=0) if packet.size]
    path = tmp_path / "b.flac"
    path.write_bytes((tmp_path / "a.flac").read_bytes()[: places[6]])
    with pytest.raises(UnreadableError, match=r"b\.flac is cut off: it has \d+ of 48000"):
        read_audio(path)


def test_a_recording_of_unknown_length_is_read(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.arange(100)[:, None])
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4  # As programs write that cannot go back.
    path.write_bytes(content)
    assert len(read_audio(path)[0]) == 100


def test_a_recording_without_samples_is_named(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.zeros((0, 1)))
    with pytest.raises(UnreadableError, match=r"a\.wav (has no samples|cannot be decoded)"):
        read_audio(path)
