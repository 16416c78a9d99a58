"""What a run came to, as one page that needs nothing else: ``report.html`` in its folder."""

import html
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from scenax.common import config as config_lib
from scenax.common import tree, visualize
from scenax.models.architectures import vit
from scenax.train import workdir, writers
from scenax.train.checkpoints import Checkpoint

from . import attention
from .evaluate import Predictions, predict
from .task import flops_per_image
from .train import Run

REPORT_NAME = "report.html"
MISTAKES_SHOWN = 24
EXAMPLES_SHOWN = 6
RATES_SHOWN = 500


def write(
    run: Run,
    end: Checkpoint,
    metrics: dict[str, float],
    folder: pathlib.Path,
    *,
    command: str,
) -> pathlib.Path:
    """Writes the report of a trained run and returns its path.

    Args:
      run: what was trained.
      end: where it ended.
      metrics: of the test split.
      folder: the run's, with its log.
      command: what starts a run, without its flags.
    """
    predictions = predict(
        run.model, end.state, run.dataset.test_iter, first=EXAMPLES_SHOWN, worst=MISTAKES_SHOWN
    )
    records = writers.read_log(folder)
    sections = [
        ("Result", _summary(run, end, metrics)),
        ("Loss", visualize.curves(_series(records, "loss"), ylabel="cross-entropy", log=True)),
        ("Learning rate", visualize.curves(_rates(run), ylabel="learning rate")),
        ("Accuracy", visualize.curves(_series(records, "accuracy"), ylabel="top-1 accuracy")),
        ("Confusion matrix of the test split", _confusion(run, predictions)),
        ("Most confident mistakes", _mistakes(run, predictions)),
    ]
    if isinstance(run.model.flax_model, vit.VisionTransformer):
        sections.append(("What the transformer attends to", _attention(run, end, predictions)))
    sections += [
        ("Parameters", f"<pre>{html.escape(tree.parameter_table(end.state.params))}</pre>"),
        ("Configuration", f"<pre>{html.escape(_pretty(run.config))}</pre>"),
        ("Continue, evaluate or fork", _commands(run, folder, command)),
    ]
    path = folder / REPORT_NAME
    title = f"{run.config.model.name} on {run.config.dataset.name}"
    path.write_text(visualize.html_page(title, sections), encoding="utf-8")
    return path


def _summary(run: Run, end: Checkpoint, metrics: dict[str, float]) -> str:
    rows: list[tuple[str, Any]] = [(f"test {name}", value) for name, value in metrics.items()]
    rows += [
        ("parameters", tree.parameter_count(end.state.params)),
        ("MFLOPs of one image, forward (2 x multiply-adds)", flops_per_image(run.model) / 1e6),
        ("steps", int(end.state.step)),
        ("seconds of training", end.seconds),
        ("devices", f"{run.mesh.size} x {jax.devices()[0].device_kind}"),
        ("examples", ", ".join(f"{k} {v}" for k, v in run.dataset.meta_data.num_examples.items())),
    ]
    return visualize.table(rows, ["", ""])


def _series(records: list[dict[str, Any]], name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    series = {}
    for split in ("train", "validation", "test"):
        points = [(r["step"], r[name]) for r in records if r["split"] == split and name in r]
        if points:
            steps, values = zip(*points, strict=True)
            series[split] = np.array(steps), np.array(values)
    return series


def _rates(run: Run) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The learning rate at no more steps than a picture shows."""
    total = run.cadence.total_steps
    steps = np.unique(np.linspace(0, total - 1, min(total, RATES_SHOWN)).round().astype(np.int32))
    return {run.config.schedule.name: (steps, np.asarray(jax.vmap(run.schedule)(steps)))}


def _confusion(run: Run, predictions: Predictions) -> str:
    classes = run.dataset.meta_data.num_classes
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (predictions.labels, predictions.guesses), 1)
    return visualize.confusion_matrix(counts, run.dataset.meta_data.label_names)


def _mistakes(run: Run, predictions: Predictions) -> str:
    names = run.dataset.meta_data.label_names
    guesses, labels = predictions.guesses, predictions.labels
    worst = predictions.worst_mistakes(MISTAKES_SHOWN)
    if not len(worst):
        return "<p>There are none: every example of the test split is classified correctly.</p>"
    shares = predictions.probabilities.max(-1)
    titles = [f"{names[labels[i]]}, taken for {names[guesses[i]]} ({shares[i]:.0%})" for i in worst]
    pictures = _pictures(np.stack([predictions.inputs[i] for i in worst]))
    wrong = int((guesses != labels).sum())
    grid = visualize.image_grid(pictures, titles, columns=6)
    return f"<p>{wrong} of {len(labels)} are wrong.</p>{grid}"


def _attention(run: Run, end: Checkpoint, predictions: Predictions) -> str:
    module = run.model.flax_model
    assert isinstance(module, vit.VisionTransformer)
    count = min(EXAMPLES_SHOWN, len(predictions.labels))
    images = np.stack([predictions.inputs[i] for i in range(count)])
    seen = attention.last_block(module, end.state.eval_variables, images)
    pictures, titles = [], []
    for image, heads, label in zip(
        _pictures(images), seen, predictions.labels[:count], strict=True
    ):
        pictures.append(image)
        titles.append(run.dataset.meta_data.label_names[label])
        pictures += list(visualize.attention_overlay(image, heads, resize="nearest"))
        titles += [f"head {i}" for i in range(len(heads))]
    note = "<p>The last block: a picture, and over it what each head sees; bright is much.</p>"
    return note + visualize.image_grid(_rgb(pictures), titles, columns=1 + seen.shape[1])


def _pictures(inputs: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n h w c"]:
    """Inputs as pictures from 0 to 1, each image by its own darkest and brightest value."""
    low = inputs.min(axis=(1, 2, 3), keepdims=True)
    high = inputs.max(axis=(1, 2, 3), keepdims=True)
    return (inputs - low) / np.maximum(high - low, 1e-6)


def _rgb(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Grey and coloured pictures, floats and bytes, as bytes in three channels."""
    same = []
    for picture in pictures:
        if picture.dtype != np.uint8:
            picture = np.round(picture * 255).astype(np.uint8)
        same.append(np.broadcast_to(picture, (*picture.shape[:2], 3)))
    return np.stack(same)


def _pretty(config: Any) -> str:
    return json.dumps(config_lib.to_dict(config), indent=2)


def _commands(run: Run, folder: pathlib.Path, command: str) -> str:
    config = folder / workdir.CONFIG_NAME
    ((length, value),) = run.config.length.items()
    evaluate = command.replace(".main", ".evaluate")
    lines = [
        ("Continue a run that was stopped", f"{command} --config={config} --workdir={folder}"),
        (
            "Train longer from where it ended",
            f"{command} --config={config} --config.{length}={2 * value} "
            f"--workdir={folder} --accept_config_changes",
        ),
        ("Fork it with another seed", f"{command} --config={config} --config.seed=1 "
         f"--workdir={folder}_seed1"),
        ("Measure the validation split", f"{evaluate} --workdir={folder} --split=validation"),
    ]  # fmt: skip
    return "".join(
        f"<p>{html.escape(what)}:</p><pre>{html.escape(line)}</pre>" for what, line in lines
    )
