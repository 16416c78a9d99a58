"""Fine-tuning, from weights in a file to a run, and to files again."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import scenax.models
from scenax.common import config as config_lib
from scenax.train.writers import read_log

from .. import demo_finetune, export
from ..main import main
from ..predict import main as predict
from .conftest import APP, SMOKE

TINY = {"img_size": 16, "patch_size": 4, "depth": 3, "embed_dim": 16}
MODEL = '{"patch_size": 4, "depth": 3, "embed_dim": 16}'


@pytest.fixture(autouse=True, scope="module")
def quick_to_compile():
    """Runs here are short."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder by class, of every mode: what is mostly red, and what is mostly blue."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        for channel, name in ((0, "red"), (2, "blue")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (20 + i, 30, 3)).astype(np.uint8)
                pixels[..., channel] += 120
                image = Image.fromarray(pixels).convert(("RGB", "RGBA", "P")[i % 3])
                image.save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of weights of five classes, for images of another size."""
    folder = tmp_path_factory.mktemp("weights")
    model = scenax.models.create_model("test_vit", num_classes=5, **TINY)
    variables = model.init(jax.random.key(9), jnp.zeros((1, 16, 16, 3)), train=False)
    scenax.models.save_pretrained(model, variables, folder)
    return folder


def flags(photos, weights, workdir, *more):
    return [
        f"--config={SMOKE}",
        f"--workdir={workdir}",
        f"--data_dir={photos}",
        "--config.dataset.name=image_folder",
        '--config.dataset.args={"image_size": 24}',
        f"--config.model.args={MODEL}",
        f"--config.weights={weights}",
        "--config.total_steps=6",
        "--config.evaluate_every=3",
        "--config.save_every=3",
        "--config.log_every=3",
        "--config.batch_size=16",
        *more,
    ]


@pytest.fixture(scope="module")
def run(photos, weights, tmp_path_factory):
    """A run on the photos with everything that fine-tuning has; its weights are gone now."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    copy = tmp_path_factory.mktemp("copy") / "weights"
    shutil.copytree(weights, copy)
    own = [
        '--config.optimizer.args={"layer_decay": 0.5, "frozen": ["^patch_embed/", "^blocks_0/"],'
        ' "rates": {"^head/": 3.0}}',
        '--config.batch_transform={"name": "mixing.MixupOrCutMix"}',
        "--config.dataset.args.one_hot=True",
        "--config.ema_decay=0.5",
    ]
    assert main(flags(photos, copy, folder, *own)) == 0
    shutil.rmtree(copy)
    return folder


def arrays(folder, **options):
    model = scenax.models.create_model("test_vit", **{**TINY, **options})
    return scenax.models.load_pretrained(model, folder)["params"]


def test_frozen_parameters_stay_and_the_others_learn(run, weights):
    old = arrays(weights, num_classes=0)
    new = arrays(run / "checkpoints", num_classes=0, img_size=24)
    for part in ("patch_embed", "blocks_0"):
        jax.tree.map(np.testing.assert_array_equal, new[part], old[part])
    for part in ("blocks_1", "blocks_2", "norm"):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), new[part], old[part])
        assert max(jax.tree.leaves(moved)) > 1e-4
    assert old["pos_embed"].shape == (1, 17, 16)
    assert new["pos_embed"].shape == (1, 37, 16)


def test_colours_are_told_apart(run):
    (test,) = [r for r in read_log(run) if r["split"] == "test"]
    assert test["accuracy"] > 0.8


def test_images_are_normalized_as_the_weights_want(run, weights):
    cfg = scenax.models.create_model("test_vit").default_cfg
    normalize = config_lib.load(run / "config.json")["dataset"]["args"]["normalize"]
    assert normalize["args"] == {"mean": list(cfg["mean"]), "std": list(cfg["std"])}


def test_it_goes_on_when_the_weights_are_gone(run, photos, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    longer = ["--config.total_steps=7", "--accept_config_changes", f"--data_dir={photos}"]
    assert main([f"--config={folder / 'config.json'}", *longer, f"--workdir={folder}"]) == 0
    assert "Continuing from the checkpoint of step 6" in capsys.readouterr().out


def test_a_run_is_exported_and_says_the_names_of_its_classes(run, photos, tmp_path, capsys):
    output = tmp_path / "exported"
    assert export.main([f"--workdir={run}", f"--output={output}", f"--data_dir={photos}"]) == 0
    capsys.readouterr()
    jax.tree.map(
        np.testing.assert_array_equal,
        arrays(output, num_classes=2, img_size=24),
        arrays(run / "checkpoints", num_classes=2, img_size=24),
    )
    pictures = [str(photos / "test" / name / "0.png") for name in ("red", "blue")]
    assert predict([f"--weights={output}", "--top=1", *pictures]) == 0
    words = capsys.readouterr().out.split()
    assert words.index("red") < words.index("blue")


def test_a_run_without_a_checkpoint_cannot_be_exported(tmp_path, capsys):
    assert export.main([f"--workdir={tmp_path}", f"--output={tmp_path / 'x'}"]) == 1
    assert "no config file" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("--config.weights=nowhere.safetensors", "no file, no folder and no model"),
        ("--config.fresh=['haed.*']", "fresh: 'haed.*' fits no array"),
        ("--config.model.args.depth=2", "left over: blocks.2"),
        ("--config.optimizer.args={'frozen': ['^blok']}", "'^blok' is found in no parameter"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_kept(
    photos, weights, tmp_path, capsys, change, said
):
    assert main(flags(photos, weights, tmp_path / "run", change)) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_demo_says_what_pretraining_is_worth(data_dir, tmp_path, capsys):
    """A few steps of it."""
    short = [f"--config.{key}=4" for key in ("total_steps", "evaluate_every", "save_every")]
    start = [f"--workdir={tmp_path}", f"--data_dir={data_dir}", *short]
    start += ["--config.schedule.args.warmup_steps=1", "--config.model.args.depth=1"]
    assert demo_finetune.main(start) == 0
    first = capsys.readouterr().out
    table = first[first.index("Digits 5 to 9, 4 steps") :]
    shares = {}
    for name in ("pretrained weights", "scratch"):
        (test,) = [
            r for r in read_log(tmp_path / f"from_{name.replace(' ', '_')}") if r["split"] == "test"
        ]
        assert f"{test['accuracy']:.4f}" in table
        shares[name] = test["accuracy"]
    margin = 100 * (shares["pretrained weights"] - shares["scratch"])
    assert f"Pretraining is worth {margin:.1f} points" in table
    assert (tmp_path / "exported" / "model.safetensors").exists()


def test_the_config_for_photographs_makes_a_run(photos, weights, tmp_path):
    """With a small model, and weights that need no network."""
    config = APP / "configs" / "finetune_vit_b16.py"
    small = [
        "--config.model.name=test_vit",
        "--config.model.args={'depth': 3, 'embed_dim': 16, 'patch_size': 16}",
        "--config.fresh=['patch_embed.*', 'pos_embed']",
        "--config.total_steps=1",
        "--config.schedule.args.warmup_steps=0",
        "--config.batch_size=8",
    ]
    start = [f"--config={config}", f"--workdir={tmp_path}", f"--data_dir={photos}", *small]
    assert main([*start, f"--config.weights={weights}"]) == 0
    (test,) = [r for r in read_log(tmp_path) if r["split"] == "test"]
    assert np.isfinite(test["loss"])
