"""Pictures of all kinds, as a user has them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import scenax.models

from ..predict import main

NAMES = ["crane", "[heron]", "stork"]


def save(folder, model, **options):
    """Weights from chance in a folder, and what they were."""
    shape = (1, 32, 32, model.in_chans)
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(3), jnp.zeros(shape)
    )
    variables = jax.tree.map(lambda x: 3 * x, dict(variables))  # So that classes differ.
    scenax.models.save_pretrained(model, variables, folder, **options)
    return variables


@pytest.fixture(scope="module")
def vit():
    return scenax.models.create_model(
        "test_vit", img_size=32, patch_size=8, depth=2, num_classes=3, embed_dim=16
    )


@pytest.fixture(scope="module")
def weights(vit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return folder, save(folder, vit, label_names=NAMES)


@pytest.fixture(scope="module")
def pixels():
    y, x = np.mgrid[:48, :64]
    return np.stack([4 * x, 5 * y, 2 * (x + y)], axis=-1).astype(np.uint8)


def expected(vit, variables, pixels):
    """Percent by name: Pillow's resizing, and a crop of the middle, written once more."""
    height, width = pixels.shape[:2]
    side = int(32 / vit.default_cfg["crop_pct"])
    scale = side / min(height, width)
    image = Image.fromarray(pixels).resize(
        (int(width * scale), int(height * scale)), Image.Resampling.BICUBIC
    )
    left, top = round((image.width - 32) / 2), round((image.height - 32) / 2)
    seen = np.asarray(image.crop((left, top, left + 32, top + 32)))
    cfg = vit.default_cfg
    inputs = (seen / 255 - np.array(cfg["mean"])) / np.array(cfg["std"])
    logits = vit.apply(variables, jnp.asarray(inputs[None], jnp.float32), train=False)
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    return dict(zip(NAMES, 100 * shares, strict=True))


def told(text):
    """Of every file that was printed, percent by name."""
    found, name = {}, ""
    for line in text.splitlines():
        if match := re.match(r" (\S+) .*?([\d.]+)%\s*$", line):
            found[name][match[1]] = float(match[2])
        elif line and not line.startswith(" "):
            name = line.rsplit("/", 1)[-1]
            found[name] = {}
    return found


def test_every_mode_and_orientation_is_the_picture_that_people_see(
    vit, weights, pixels, tmp_path, capsys
):
    folder, variables = weights
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # It lies on its side: turned by a quarter, clockwise, to be seen.
    image.save(tmp_path / "rgb.png")
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    image.convert("RGBA").save(tmp_path / "rgba.webp", lossless=True)
    image.convert("L").save(tmp_path / "grey[0].tiff")
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.gif")
    files = sorted(tmp_path.iterdir())
    assert main([f"--weights={folder}", "--top=3", *map(str, files)]) == 0
    found = told(capsys.readouterr().out)
    assert list(found) == [file.name for file in files]
    grey = np.asarray(image.convert("L").convert("RGB"))
    with Image.open(tmp_path / "palette.gif") as image:
        palette = np.asarray(image.convert("RGB"))
    for name, shown in found.items():
        wanted = {"grey[0].tiff": grey, "palette.gif": palette}.get(name, pixels)
        wanted = expected(vit, variables, wanted)
        assert list(shown) == sorted(wanted, key=lambda label: -wanted[label])
        assert shown == pytest.approx(wanted, abs=0.11)


def test_a_broken_file_is_reported_and_the_rest_go_on(weights, pixels, tmp_path, capsys):
    Image.fromarray(pixels).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:90])
    (tmp_path / "text.jpg").write_text("no picture")
    names = ["broken.png", "missing.png", "good.png", "text.jpg", "good.png"]
    files = [str(tmp_path / name) for name in names]
    assert main([f"--weights={weights[0]}", "--top=1", *files]) == 1
    out, err = capsys.readouterr()
    assert out.count("good.png") == 2
    assert out.count("%") == 2
    for name in ("broken.png", "missing.png", "text.jpg"):
        assert name in err
    assert "it is no image" in err
    assert "Traceback" not in err


def test_attention_is_a_picture_beside_what_the_model_sees(weights, pixels, tmp_path, capsys):
    Image.fromarray(pixels).save(tmp_path / "a b.png")
    image = str(tmp_path / "a b.png")
    flags = [f"--weights={weights[0]}", f"--attention={tmp_path / 'seen'}"]
    assert main([*flags, image]) == 0
    (picture,) = (tmp_path / "seen").iterdir()
    assert str(picture) in capsys.readouterr().out
    drawn = np.asarray(Image.open(picture))
    assert drawn.shape == (224, 2 * 224, 3)
    left, right = np.split(drawn, 2, axis=1)
    # Pixels of seven by seven, those of the middle of the picture as it was resized.
    assert (left[::7, ::7] == left[6::7, 6::7]).all()
    assert np.abs(left.astype(int) - right).mean() > 5


def test_names_come_from_a_file_of_ones_own_or_are_imagenets(weights, pixels, tmp_path, capsys):
    Image.fromarray(pixels).save(tmp_path / "x.png")
    (tmp_path / "names.txt").write_text("one\ntwo\nthree\n")
    flags = [f"--weights={weights[0]}", str(tmp_path / "x.png")]
    assert main([*flags, f"--labels={tmp_path / 'names.txt'}"]) == 0
    assert {"one", "two", "three"} <= set(capsys.readouterr().out.split())
    (tmp_path / "names.txt").write_text("one\n")
    assert main([*flags, f"--labels={tmp_path / 'names.txt'}"]) == 1
    assert "names 1 classes; there are 3" in capsys.readouterr().err

    model = scenax.models.create_model("test_vit", img_size=32, depth=1, embed_dim=16)
    variables = save(tmp_path / "thousand", model)
    head = variables["params"]["head"]
    head["bias"] = head["bias"].at[207].set(1e4)  # Of ILSVRC 2012, the golden retriever.
    scenax.models.save_pretrained(model, variables, tmp_path / "thousand")
    assert main([f"--weights={tmp_path / 'thousand'}", str(tmp_path / "x.png")]) == 0
    assert re.search(r"golden retriever .*100\.0%", capsys.readouterr().out)


def test_a_file_without_a_config_needs_the_models_name(weights, pixels, tmp_path, capsys):
    model = scenax.models.create_model("resnet10t", num_classes=7)
    variables = jax.jit(functools.partial(model.init, train=False))(
        jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )
    scenax.models.save_pretrained(model, variables, tmp_path)
    (tmp_path / "config.json").unlink()
    Image.fromarray(pixels).save(tmp_path / "x.png")
    file, image = f"--weights={tmp_path / 'model.safetensors'}", str(tmp_path / "x.png")
    assert main([file, image]) == 1
    assert "has no config.json. Say what model it is of" in capsys.readouterr().err
    assert main([file, "--model=resnet10t", "--top=9", image]) == 0
    assert capsys.readouterr().out.count("class ") == 7  # As many as the head of the file has.
    attention = f"--attention={tmp_path / 'seen'}"
    assert main([file, "--model=resnet10t", attention, image]) == 1
    assert "--attention is for a ViT with a class token" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "Say --model, --weights or both"),
        (["--weights=nowhere/x.safetensors"], "no file, no folder and no model"),
        (["--model=test_vitt"], "Did you mean 'test_vit'"),
    ],
)
def test_what_is_missing_is_said(flags, said, tmp_path, capsys):
    assert main([*flags, str(tmp_path / "x.png")]) == 1
    assert said in capsys.readouterr().err
