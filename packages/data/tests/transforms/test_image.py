"""Decoded pixels against Pillow and the pixels that were encoded; colours against formulas."""

import colorsys
import io
import itertools
import pathlib
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from unittest import mock

import cv2
import numpy as np
import pytest
import sklearn
from PIL import Image

from scenax.data.reports import UnreadableError
from scenax.data.transforms import image as transforms
from scenax.data.transforms.image import (
    ColorJitter,
    DecodeImage,
    Normalize,
    RandomErasing,
    decode_image,
    encoded_size,
)

PHOTOGRAPHS = pathlib.Path(sklearn.__file__).parent / "datasets" / "images"
ORIENTATION = 0x0112
GREY = np.array([0.299, 0.587, 0.114])


def generator(seed=0):
    return np.random.default_rng(seed)


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def raw(encoded, mode="RGB"):
    """What Pillow decodes, without turning it."""
    return np.asarray(Image.open(io.BytesIO(encoded)).convert(mode))


@pytest.fixture(scope="module")
def picture():
    """A photograph of 80 x 60 pixels."""
    return Image.open(PHOTOGRAPHS / "china.jpg").resize((80, 60))


@pytest.fixture(scope="module")
def pixels(picture):
    return np.asarray(picture)


# Decoding.


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_jpegs_decode_as_pillow_does_and_without_it(name):
    encoded = (PHOTOGRAPHS / name).read_bytes()
    with mock.patch.object(transforms.Image, "open", side_effect=AssertionError):
        found = decode_image(encoded)
    difference = np.abs(found.astype(int) - raw(encoded))
    assert found.shape == (427, 640, 3)
    assert difference.max() <= 2
    assert difference.mean() < 0.2
    assert encoded_size(encoded) == (427, 640)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 5}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_kind_of_jpeg_decodes_as_pillow_does(picture, mode, options):
    encoded = encode(picture.convert(mode), "JPEG", **options)
    np.testing.assert_allclose(decode_image(encoded).astype(int), raw(encoded), atol=2)


def grey(plane):
    return np.repeat(np.asarray(plane)[..., None], 3, axis=-1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_lossless_colours_are_those_that_were_encoded(picture, pixels, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode_image(encode(picture, kind, **options)), pixels)


def test_grey_and_transparent_images_become_rgb(picture, pixels):
    alpha = Image.fromarray(np.tile(np.arange(80, dtype=np.uint8) * 3, (60, 1)))
    light = picture.convert("L")
    for image, expected in [
        (light, grey(light)),
        (Image.merge("LA", [light, alpha]), grey(light)),
        (Image.merge("RGBA", [*picture.split(), alpha]), pixels),
        (picture.convert("1"), 255 * grey(picture.convert("1"))),
    ]:
        np.testing.assert_array_equal(decode_image(encode(image, "PNG")), expected)
    for image, key in [(picture, (1, 2, 3)), (light, 77), (picture.convert("1"), 0)]:
        found = decode_image(encode(image, "PNG", transparency=key))
        np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("transparency", [None, 7, bytes(range(256))])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palettes_are_looked_up(picture, kind, transparency):
    indexed = picture.quantize(256)
    colours = np.array(indexed.getpalette(), np.uint8).reshape(-1, 3)
    expected = colours[np.asarray(indexed)]
    if kind == "GIF" and isinstance(transparency, bytes):
        transparency = 3
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(decode_image(encode(indexed, kind, **options)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled(kind):
    wide = np.linspace(0, 65535, 60 * 80).round().astype(np.uint16).reshape(60, 80)
    found = decode_image(encode(Image.fromarray(wide), kind))
    np.testing.assert_array_equal(found, grey(np.round(wide / 65535 * 255)))
    assert (found.min(), found.max()) == (0, 255)


def test_floating_point_pixels_are_refused_with_the_reason(picture):
    encoded = encode(picture.convert("F"), "TIFF")
    with pytest.raises(UnreadableError, match=r"depth\.tif .*floating-point .* store integers"):
        decode_image(encoded, name="depth.tif")


def test_cmyk_becomes_rgb(picture, pixels):
    smooth = picture.resize((40, 30)).resize((80, 60))
    expected = np.asarray(smooth).astype(float)
    black = 255 - expected.max(axis=-1)
    cmy = 255 * (1 - expected / np.maximum(255 - black, 1)[..., None])
    cmyk = np.concatenate([cmy, black[..., None]], axis=-1).round().astype(np.uint8)
    options = {"quality": 100, "subsampling": 0}
    plain = encode(Image.fromarray(cmyk, "CMYK"), "JPEG", **options)
    np.testing.assert_allclose(decode_image(plain).astype(float), expected, atol=8)

    # YCCK as Adobe writes it: the inks but black as YCbCr, and black inverted.
    inks = cmyk.astype(float)
    luma = inks[..., :3] @ GREY
    chroma = [(inks[..., 2] - luma) / 1.772 + 128, (inks[..., 0] - luma) / 1.402 + 128]
    planes = np.stack([luma, *chroma, 255 - inks[..., 3]], axis=-1).round().clip(0, 255)
    ycck = encode(Image.fromarray((255 - planes).astype(np.uint8), "CMYK"), "JPEG", **options)
    transform = ycck.index(b"Adobe") + len(b"Adobe") + 6
    assert ycck[transform] == 0
    ycck = ycck[:transform] + b"\x02" + ycck[transform + 1 :]
    np.testing.assert_allclose(decode_image(ycck).astype(float), expected, atol=10)
    for each in (plain, ycck):  # OpenCV rounds differently.
        np.testing.assert_array_equal(decode_image(each), raw(each))

    # Any number of fill bytes may stand before a marker.
    filled = plain[:2] + b"\xff\xff\xff" + plain[2:]
    np.testing.assert_array_equal(decode_image(filled), decode_image(plain))


TURNED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
}
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


def oriented(picture, kind, orientation):
    if kind == "XMP":
        return encode(picture, "JPEG", xmp=XMP.format(orientation).encode())
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(picture, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["JPEG", "XMP", "PNG", "WEBP", "TIFF"])
def test_images_are_upright_and_their_size_is_known_before(picture, pixels, kind, orientation):
    encoded = oriented(picture, kind, orientation)
    stored = raw(encoded).astype(int) if kind in ("JPEG", "XMP") else pixels
    expected = TURNED[orientation](stored)
    found = decode_image(encoded)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.astype(int), expected, atol=2)
    assert encoded_size(encoded) == expected.shape[:2]
    single = decode_image(encoded, channels=1)
    assert single.shape == (*expected.shape[:2], 1)
    np.testing.assert_allclose(single[..., 0], expected @ GREY, atol=2)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_turns_nothing(picture, orientation):
    encoded = oriented(picture, "JPEG", orientation)
    np.testing.assert_allclose(decode_image(encoded).astype(int), raw(encoded), atol=2)
    assert encoded_size(encoded) == (60, 80)


def test_one_channel_is_pillows_grey(picture):
    for kind, image in [("JPEG", picture), ("PNG", picture), ("PNG", picture.quantize(64))]:
        encoded = encode(image, kind)
        found = decode_image(encoded, channels=1)
        np.testing.assert_array_equal(found[..., 0], raw(encoded, "L"))


def test_the_transform_puts_inputs_in_the_place_of_the_image(picture, pixels):
    example = {"image": encode(picture, "PNG"), "label": 3, "name": "cat.png"}
    found = DecodeImage()(example, generator())
    assert found.keys() == {"inputs", "original_size", "label", "name"}
    np.testing.assert_array_equal(found["inputs"], pixels)
    assert found["original_size"].tolist() == [60, 80]
    assert found["original_size"].dtype == np.int32
    assert DecodeImage(channels=1)(example, generator())["inputs"].shape == (60, 80, 1)
    with pytest.raises(UnreadableError, match=r"^cat\.png \(2 bytes\): it is no image"):
        DecodeImage()(example | {"image": b"no"}, generator())


# What cannot be decoded.


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(99)}])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_jpeg_that_is_cut_off_is_never_partly_grey(picture, options, zeros):
    whole = encode(picture, "JPEG", **options)
    expected = decode_image(whole)
    refused = 0
    cuts = [*range(0, len(whole) - 8, len(whole) // 60), *range(len(whole) - 8, len(whole))]
    for cut in cuts:
        # Programs that make room first leave zeros where nothing came.
        encoded = whole[:cut] + bytes(500 if zeros else 0)
        try:
            found = decode_image(encoded, name="cat.jpg")
        except UnreadableError as error:
            assert str(error).startswith(f"cat.jpg ({len(encoded)} bytes)")
            refused += 1
        else:  # Only what comes after the last pixel was missing.
            np.testing.assert_array_equal(found, expected)
    assert refused >= len(cuts) - 8


def test_zeros_after_a_whole_jpeg_are_no_harm(picture):
    whole = encode(picture, "JPEG")
    np.testing.assert_array_equal(decode_image(whole + bytes(5000)), decode_image(whole))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_other_files_that_are_cut_off_are_named(picture, kind):
    whole = encode(picture, kind)
    for share in (0.02, 0.3, 0.6, 0.9):
        encoded = whole[: round(share * len(whole))]
        with pytest.raises(UnreadableError, match=rf"^cat \({len(encoded)} bytes\): "):
            decode_image(encoded, name="cat")


@pytest.mark.parametrize("encoded", [b"", b"<html>404 Not Found</html>", b"\xff\xd8", b"\xff" * 90])
def test_what_is_no_image_is_named(encoded):
    with pytest.raises(UnreadableError, match=rf"cat\.jpg \({len(encoded)} bytes\): "):
        decode_image(encoded, name="cat.jpg")
    with pytest.raises(UnreadableError, match=rf"cat\.jpg \({len(encoded)} bytes\): "):
        encoded_size(encoded, name="cat.jpg")


def bomb(kind, side):
    """A small file whose header says that it has this many pixels a side."""
    encoded = encode(Image.new("RGB", (8, 8)), kind)
    if kind == "JPEG":
        at = encoded.index(b"\xff\xc0") + 5
        return encoded[:at] + struct.pack(">HH", side, side) + encoded[at + 4 :]
    header = b"IHDR" + struct.pack(">II", side, side) + encoded[24:29]
    return encoded[:12] + header + struct.pack(">I", zlib.crc32(header)) + encoded[33:]


@pytest.mark.parametrize(
    ("kind", "side"), [("JPEG", 20_000), ("JPEG", 65_500), ("PNG", 20_000), ("PNG", 2**31 - 1)]
)
def test_a_header_of_too_many_pixels_is_refused_before_room_is_made(kind, side):
    encoded = bomb(kind, side)
    with mock.patch.object(cv2, "imdecode", side_effect=AssertionError) as made:
        with pytest.raises(UnreadableError, match=r"bomb .*exceeds limit of 178956970"):
            decode_image(encoded, name="bomb")
        with pytest.raises(UnreadableError, match=r"bomb .*exceeds limit of 178956970"):
            encoded_size(encoded, name="bomb")
    made.assert_not_called()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000"])
def test_damaged_bytes_are_an_image_or_unreadable(picture, kind):
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = 6, "maker"
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    whole = np.frombuffer(encode(picture.resize((20, 15)), kind, **options), np.uint8)
    rng, refused = generator(), 0
    for _ in range(150):
        damaged = whole.copy()
        places = rng.integers(min(400, len(whole)), size=rng.integers(1, 7))
        damaged[places] = rng.integers(256, size=len(places))
        for read in (decode_image, encoded_size):
            try:
                found = read(damaged.tobytes())
            except UnreadableError:
                refused += 1
            else:
                assert read is encoded_size or (found.dtype == np.uint8 and found.shape[2] == 3)
    assert refused


def test_warnings_are_as_before_after_decoding_in_many_threads():
    noise = Image.fromarray(generator().integers(0, 255, (200, 200, 3), dtype=np.uint8))
    encoded = encode(noise, "PNG")
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode_image(encoded) for _ in range(40)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_odd_tags_are_passed_over_in_silence(picture, pixels, tmp_path):
    # A tag that says it is longer than the file.
    odd = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x0f\0\x02\0\xff\xff\xff\0\0\0\x1a\0\0\0\0"
    path = tmp_path / "odd.png"
    path.write_bytes(encode(picture, "PNG", exif=odd))
    program = (
        "import pathlib, sys, PIL.Image\n"
        "encoded = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "if sys.argv[2] == 'pillow': PIL.Image.open(sys.argv[1]).getexif()\n"
        "else:\n"
        "    from scenax.data.transforms import image\n"
        "    print(image.decode_image(encoded).sum())\n"
    )
    pillow, ours = (
        subprocess.run(
            [sys.executable, "-c", program, str(path), which],
            capture_output=True,
            text=True,
            check=True,
        )
        for which in ("pillow", "ours")
    )
    assert "Skipping tag 271" in pillow.stderr  # By itself it warns.
    assert "Skipping tag" not in ours.stderr
    assert int(ours.stdout) == pixels.sum()


# Normalization.


def test_by_default_values_reach_from_minus_one_to_one():
    image = np.arange(256, dtype=np.uint8).reshape(8, 32, 1)
    found = Normalize()({"inputs": image, "label": 3}, generator())
    assert found["inputs"].dtype == np.float32
    np.testing.assert_allclose(found["inputs"], image / 127.5 - 1, atol=3e-7)
    assert (found["inputs"].min(), found["inputs"].max()) == (-1, 1)
    assert found["label"] == 3


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("mean", [MEAN, (0.4,)])
@pytest.mark.parametrize("std", [STD, (0.3,)])
@pytest.mark.parametrize("lead", [(), (4,)])
def test_channels_have_means_and_standard_deviations(mean, std, lead):
    images = generator().integers(0, 256, (3, *lead, 7, 10, 3), dtype=np.uint8)
    expected = (images / 255 - np.array(mean)) / np.array(std)
    normalize = Normalize(mean, std)
    np.testing.assert_allclose(normalize.stack(list(images)), expected, atol=1e-6)
    singles = [normalize({"inputs": image}, generator())["inputs"] for image in images]
    np.testing.assert_array_equal(normalize.stack(list(images)), np.stack(singles))
    # Views that lie backwards in memory, or with gaps.
    flipped = [image[..., ::-1, :] for image in images]
    np.testing.assert_allclose(normalize.stack(flipped), expected[..., ::-1, :], atol=1e-6)
    every = [image[..., ::2, 1:8, :] for image in images]
    np.testing.assert_allclose(normalize.stack(every), expected[..., ::2, 1:8, :], atol=1e-6)


def test_of_a_mapping_only_what_has_8_bits_is_normalized():
    image = generator().integers(0, 256, (5, 6, 3), dtype=np.uint8)
    sound = generator().normal(size=(9, 4)).astype(np.float32)
    found = Normalize(MEAN, STD)({"inputs": {"rgb": image, "sound": sound}}, generator())["inputs"]
    np.testing.assert_allclose(found["rgb"], (image / 255 - MEAN) / STD, atol=1e-6)
    assert found["sound"] is sound


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        (Normalize(MEAN, STD), "3 means, and the images have 4 channels"),
        (Normalize((0.5,), STD), "3 standard deviations, and the images have 4 channels"),
    ],
)
def test_another_number_of_channels_is_an_error(normalize, message):
    with pytest.raises(ValueError, match=message):
        normalize({"inputs": np.zeros((6, 5, 4), np.uint8)}, generator())


# Colours.


def drawn(changes, order=(0, 1, 2, 3)):
    """A generator whose draws are these numbers, and this order."""
    rng = mock.create_autospec(np.random.Generator, instance=True)
    rng.uniform.side_effect = changes
    rng.permutation.return_value = np.array(order)
    return rng


def brightness(image, factor):
    return (factor * image).clip(0, 255)


def contrast(image, factor):
    return (factor * image + (1 - factor) * (image @ GREY).mean()).clip(0, 255)


def saturation(image, factor):
    return (factor * image + (1 - factor) * (image @ GREY)[..., None]).clip(0, 255)


FORMULAS = (brightness, contrast, saturation)


@pytest.mark.parametrize("change", [-1.0, -0.4, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("which", range(3))
def test_each_adjustment_is_torchvisions_blend(pixels, which, change):
    amounts = [0.0] * 4
    amounts[which] = 1.0
    changes = [0.9] * 4  # Those of the adjustments that are left out have no effect.
    changes[which] = change
    found = ColorJitter(*amounts)({"inputs": pixels, "label": 3}, drawn(changes))
    expected = FORMULAS[which](pixels.astype(float), 1 + change)
    assert found["inputs"].dtype == np.uint8
    np.testing.assert_allclose(found["inputs"].astype(float), expected, atol=0.51)
    assert found["label"] == 3


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_adjustments_come_in_the_order_that_is_drawn(pixels, order):
    changes = (0.6, -0.5, 0.7, 0.0)
    found = ColorJitter(0.8, 0.8, 0.8, 0.0)({"inputs": pixels}, drawn(changes, (*order, 3)))
    expected = pixels.astype(float)
    for which in order:
        expected = FORMULAS[which](expected, 1 + changes[which])
    assert np.abs(found["inputs"] - expected).max() < 3
    other = pixels.astype(float)
    for which in reversed(order):
        other = FORMULAS[which](other, 1 + changes[which])
    assert np.abs(found["inputs"] - other).max() > 6


@pytest.mark.parametrize("change", [-0.5, -0.1, 0.05, 0.25, 0.5])
def test_hue_turns_as_in_the_standard_library(change):
    colours = generator().integers(0, 256, (20, 100, 3), dtype=np.uint8)
    found = ColorJitter(0, 0, 0, 0.5)({"inputs": colours}, drawn([0, 0, 0, change]))["inputs"]
    hsv = [colorsys.rgb_to_hsv(*colour) for colour in colours.reshape(-1, 3) / 255]
    turned = [colorsys.hsv_to_rgb((h + change) % 1, s, v) for h, s, v in hsv]
    difference = np.abs(found.reshape(-1, 3) - 255 * np.array(turned))
    # Hue and saturation take 8 bits: of 255, where both are at their largest it is this far off.
    assert difference.max() < 10
    assert difference.mean() < 0.8
    # Pillow, which torchvision uses for images of its kind, is no nearer.
    planes = Image.fromarray(colours).convert("HSV").split()
    hue = Image.fromarray(np.asarray(planes[0]) + np.uint8(int(change * 255) % 256))
    pillow = np.asarray(Image.merge("HSV", [hue, *planes[1:]]).convert("RGB")).reshape(-1, 3)
    assert difference.mean() < np.abs(pillow - 255 * np.array(turned)).mean()
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=-1)
    turned = ColorJitter(0, 0, 0, 0.5)({"inputs": greys}, drawn([0, 0, 0, change]))["inputs"]
    np.testing.assert_array_equal(turned, greys)


def test_frames_of_a_clip_change_alike(pixels):
    clip = np.stack([pixels, pixels])
    changes = (0.3, -0.2, 0.4, 0.1)
    found = ColorJitter(0.4, 0.4, 0.4, 0.1)({"inputs": clip}, drawn(changes))["inputs"]
    single = ColorJitter(0.4, 0.4, 0.4, 0.1)({"inputs": pixels}, drawn(changes))["inputs"]
    np.testing.assert_array_equal(found, np.stack([single, single]))


@pytest.mark.parametrize(("amount", "lowest"), [(0.4, 0.6), (1.0, 0.0), (1.5, 0.0)])
def test_factors_are_uniform_about_one_and_never_below_zero(amount, lowest):
    image = np.full((1, 1, 3), 100, np.uint8)
    jitter = ColorJitter(amount, 0, 0, 0)
    found = [jitter({"inputs": image}, generator(seed))["inputs"][0, 0, 0] for seed in range(3000)]
    factors = np.array(found) / 100
    width = 1 + amount - lowest
    assert lowest - 0.006 <= factors.min() < lowest + 0.03
    assert 1 + amount - 0.03 < factors.max() <= 1 + amount + 0.006
    np.testing.assert_allclose(factors.mean(), lowest + width / 2, atol=0.02 * width)
    np.testing.assert_allclose(factors.var(), width**2 / 12, rtol=0.05)
    assert (factors < lowest + 0.01).mean() < 0.03  # No heap at the end.


def test_every_order_is_drawn_as_often():
    taken = []
    names = [lambda image, change, i=i: taken.append(i) or image for i in range(4)]
    with mock.patch.object(transforms, "_ADJUSTMENTS", names):
        for seed in range(2400):
            ColorJitter(0.4, 0.4, 0.4, 0.1)({"inputs": None}, generator(seed))
    orders, counts = np.unique(np.reshape(taken, (-1, 4)), axis=0, return_counts=True)
    assert len(orders) == 24
    assert ((counts - 100) ** 2 / 100).sum() < 50  # Chi-squared of 23: 1 in 1,000.


def test_a_seed_decides_the_colours(pixels):
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1)
    first, again, other = (
        jitter({"inputs": pixels}, generator(seed))["inputs"] for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# Erasing.


def erased(transform, shape, seeds):
    """Where each of many images was erased: top, left, height, width, and the noise."""
    found = []
    for seed in seeds:
        image = np.full(shape, 99, np.float32)
        inputs = transform({"inputs": image}, generator(seed))["inputs"]
        rows, columns = (np.flatnonzero((inputs != 99).any(axis)) for axis in ((1, 2), (0, 2)))
        if len(rows):
            box = (rows[0], columns[0], rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0])
            part = inputs[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
            assert (part != 99).all()  # A whole rectangle, in every channel.
            found.append((box, part))
    return np.array([box for box, _ in found]), [part for _, part in found]


def test_rectangles_have_the_asked_area_and_aspect_and_any_place():
    transform = RandomErasing(1.0, area=(0.02, 0.2), aspect_ratio=(0.3, 1 / 0.3))
    boxes, _ = erased(transform, (200, 200, 1), range(1500))
    top, left, height, width = boxes.T
    assert len(boxes) == 1500
    share = height * width / 200**2
    assert 0.018 < share.min() < 0.022
    assert 0.196 < share.max() < 0.203
    np.testing.assert_allclose(share.mean(), 0.11, atol=0.005)
    ratio = np.log(height / width)
    assert np.abs(ratio).max() < np.log(1 / 0.3) + 0.05
    np.testing.assert_allclose(ratio.mean(), 0, atol=0.06)
    np.testing.assert_allclose(ratio.var(), np.log(1 / 0.09) ** 2 / 12, rtol=0.06)
    np.testing.assert_allclose((top / (200 - height)).mean(), 0.5, atol=0.03)
    np.testing.assert_allclose((left / (200 - width)).mean(), 0.5, atol=0.03)


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_images_are_erased_with_the_probability(probability):
    count = len(erased(RandomErasing(probability), (32, 48, 3), range(1000))[0])
    assert abs(count - 1000 * probability) <= (50 if 0 < probability < 1 else 0)


def test_the_noise_is_normal_and_its_own_in_every_pixel_and_frame():
    _, parts = erased(RandomErasing(1.0), (64, 64, 3), range(40))
    noise = np.concatenate([part.reshape(-1, 3) for part in parts])
    assert len(noise) > 20_000
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(3), atol=0.03)
    np.testing.assert_allclose((noise**4).mean(), 3, atol=0.15)  # As of a normal distribution.
    clip = np.zeros((2, 64, 64, 3), np.float32)
    found = RandomErasing(1.0)({"inputs": clip}, generator())["inputs"]
    np.testing.assert_array_equal(found[0] != 0, found[1] != 0)
    assert (found[0] != found[1]).any()


def test_what_is_not_erased_stays():
    image = generator().normal(size=(40, 50, 3)).astype(np.float32)
    before = image.copy()
    found = RandomErasing(1.0)({"inputs": image, "label": 3}, generator())
    np.testing.assert_array_equal(image, before)  # It is not written into.
    changed = found["inputs"] != image
    assert 0.015 < changed.mean() < 0.35
    assert found["label"] == 3
    # No rectangle has twice the image's area.
    whole = RandomErasing(1.0, area=(2.0, 2.0))({"inputs": image}, generator())["inputs"]
    np.testing.assert_array_equal(whole, image)


def test_images_that_are_not_normalized_are_refused(pixels):
    with pytest.raises(TypeError, match=r"got uint8 inputs\. Put it after Normalize"):
        RandomErasing()({"inputs": pixels}, generator())
