"""A whole run and what it leaves."""

import html.parser
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.common import config as config_lib
from scenax.train import sharding, step
from scenax.train.evaluate import evaluate
from scenax.train.writers import read_log

from ..config import Config
from ..evaluate import predict
from ..train import make_run
from .conftest import APP, SMOKE


def test_it_learns_and_says_where_everything_is(smoke_run):
    folder, ran = smoke_run
    (test,) = [r for r in read_log(folder) if r["split"] == "test"]
    assert test["accuracy"] > 0.6
    assert f"{test['accuracy']:.4f}" in ran.stdout
    for said in ("images/s", "s left", "report.html", "metrics.jsonl", "tensorboard", "Try next"):
        assert said in ran.stdout
    assert "WARNING" not in ran.stderr
    steps = [r["step"] for r in read_log(folder) if r["split"] == "validation"]
    assert steps == [20, 40]
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["20", "30", "40"]
    assert list((folder / "tensorboard").iterdir())


def test_the_report_needs_nothing_else(smoke_run):
    folder, _ = smoke_run
    page = (folder / "report.html").read_text()

    class Links(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.found, self.headings, self.images = [], [], 0

        def handle_starttag(self, tag, attributes):
            for name, value in attributes:
                if name in ("href", "src", "xlink:href"):
                    self.found.append(value)
            self.images += tag == "img"

        def handle_data(self, data):
            self.headings.append(data)

    links = Links()
    links.feed(page)
    assert links.found
    assert all(link.startswith(("#", "data:")) for link in links.found)
    text = " ".join(links.headings)
    for heading in (
        "Loss",
        "Learning rate",
        "Accuracy",
        "Confusion matrix",
        "mistakes",
        "attends",
        "Configuration",
    ):
        assert heading in text
    assert "--accept_config_changes" in text
    assert '"patch_size": 4' in text
    # blocks 2 x (4 x 64^2 + 2 x 3 x 64^2 + 64 (3 + 1 + 3 + 1 + 4)), patches, positions, norm, head.
    per_block = 10 * 64 * 64 + 64 * (3 + 1 + 3 + 1 + 4)
    count = 2 * per_block + (16 + 1) * 64 + 64 + 5 * 64 + 2 * 64 + 10 * 64 + 10
    assert str(count) in text
    (test,) = [r for r in read_log(folder) if r["split"] == "test"]
    wrong = 374 - round(374 * test["accuracy"])
    assert f"{wrong} of 374 are wrong" in text
    assert links.images == min(wrong, 24) + 6 * (1 + 2)


@pytest.fixture(scope="module")
def restored(smoke_run, data_dir):
    folder, _ = smoke_run
    data = config_lib.load(folder / "config.json")

    def restore(**overrides):
        config = config_lib.resolve(Config, data, overrides)
        return make_run(config, folder, str(data_dir))

    return restore


def test_metrics_are_the_same_for_any_batch_size_and_number_of_devices(smoke_run, restored):
    folder, _ = smoke_run
    (logged,) = [r for r in read_log(folder) if r["split"] == "test"]
    for eval_batch_size in (1, 7, 256):
        run = restored(eval_batch_size=eval_batch_size)
        for devices in (1, 8):
            mesh = sharding.make_mesh(jax.devices()[:devices])
            state = jax.device_put(run.start.state, sharding.replicated(mesh))
            eval_step = step.make_eval_step(run.model, mesh, "test")
            found = evaluate(eval_step, state, run.dataset.test_iter, mesh)
            assert found["accuracy"] == logged["accuracy"]
            assert found["top_5_accuracy"] == logged["top_5_accuracy"]
            assert found["loss"] == pytest.approx(logged["loss"], rel=1e-5)


def test_predictions_are_all_there_and_keep_few_inputs(restored):
    run = restored(eval_batch_size=5)  # Small batches, so that what is kept is thinned out.
    all_inputs = np.concatenate([b["inputs"][b["batch_mask"] > 0] for b in run.dataset.test_iter])
    all_labels = np.concatenate([b["label"][b["batch_mask"] > 0] for b in run.dataset.test_iter])
    found = predict(run.model, run.start.state, run.dataset.test_iter, first=2, worst=3)
    np.testing.assert_array_equal(found.labels, all_labels)
    outputs = run.model.flax_model.apply(
        run.start.state.variables, jnp.asarray(all_inputs), train=False
    )
    expected = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    worst = sorted(
        (i for i in range(len(all_labels)) if expected[i].argmax() != all_labels[i]),
        key=lambda i: -expected[i].max(),
    )[:3]
    assert found.worst_mistakes(3).tolist() == worst
    assert len(found.inputs) < 60
    for place in [0, 1, *worst]:
        np.testing.assert_array_equal(found.inputs[place], all_inputs[place])


def test_evaluating_the_folder_gives_the_logged_numbers(smoke_run, command):
    folder, _ = smoke_run
    (logged,) = [r for r in read_log(folder) if r["split"] == "test"]
    ran = command(f"--workdir={folder}", module="evaluate")
    assert ran.returncode == 0, ran.stderr
    assert f"{logged['accuracy']:.4f}" in ran.stdout
    assert "step 40: test split" in " ".join(ran.stdout.split())


def test_durations_in_epochs_are_those_in_steps(smoke_run, command, tmp_path):
    folder, _ = smoke_run
    ran = command(
        f"--config={SMOKE}",
        f"--workdir={tmp_path / 'run'}",
        "--config.total_steps=None",
        "--config.total_epochs=2",  # Of 1,255 examples in batches of 64: 39.2 steps.
        "--config.evaluate_every=39",
        '--config.schedule={"name": "cosine", "args": {"warmup_examples": 256}}',
    )
    assert ran.returncode == 0, ran.stderr
    records = [r for r in read_log(tmp_path / "run") if r["split"] == "train"]
    assert records[-1]["step"] == 39
    before = [r for r in read_log(folder) if r["split"] == "train"]
    # The same four steps of warm-up; the cosine is by a fortieth shorter.
    assert records[0]["loss"] == pytest.approx(before[0]["loss"], rel=1e-2)
    assert "--config.total_epochs=4" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("path", sorted((APP / "configs").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_every_config_fits_and_tells_what_it_costs(path):
    config = config_lib.resolve(Config, config_lib.load(path), {})
    plain = json.loads(json.dumps(config_lib.to_dict(config)))
    assert config_lib.resolve(Config, plain, {}) == config
    docstring = path.read_text().split('"""')[1]
    assert f"configs/{path.name}" in docstring
    for word in ("--workdir", "top-1"):
        assert word in docstring


def test_mixing_changes_training_and_nothing_else(command, tmp_path):
    mixing = '{"name": "mixing.MixupOrCutMix"}'
    short = ("--config.total_steps=10", "--config.evaluate_every=10", "--config.log_every=1")
    runs = {}
    for name, mixed in (("plain", "None"), ("mixed", mixing)):
        runs[name] = tmp_path / name
        ran = command(
            f"--config={SMOKE}",
            f"--workdir={runs[name]}",
            "--config.dataset.args.one_hot=True",
            f"--config.batch_transform={mixed}",
            *short,
        )
        assert ran.returncode == 0, ran.stderr
    plain, mixed = (read_log(folder) for folder in runs.values())
    first = [log[0]["loss"] for log in (plain, mixed)]
    assert first[0] != first[1]
    assert [r["step"] for r in plain] == [r["step"] for r in mixed]
    # Soft labels of ten classes cannot be learnt below their own entropy as hard ones can.
    assert all(0 < r["loss"] < 4 for r in mixed)
    config = config_lib.load(runs["mixed"] / "config.json")
    assert config["batch_transform"] == {"name": "mixing.MixupOrCutMix"}
