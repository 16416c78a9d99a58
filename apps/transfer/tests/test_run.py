"""A whole evaluation, what it leaves, and what the next command makes of that."""

import html.parser
import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import scenax.data

from .. import features
from .conftest import OPTIONS, smoke


def cached(folder):
    return sorted((folder / "features").glob("*.npz"))


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_the_table_has_what_the_numbers_are(finished):
    folder, out = finished
    found = results(folder)["results"]
    names = ["k-NN", "ridge", "linear probe", "1-shot ridge", "5-shot ridge"]
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert len(rows) == len(found) == len(names)
    for row, name, result in zip(rows, names, found, strict=True):
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        assert cells[0] == name
        assert cells[2] == f"{result['validation_top_1']:.4f}"
        shown = f"{result['test_top_1']:.4f}"
        if result["shots"]:
            shown += f" ± {result['test_deviation']:.4f}"
        assert cells[3] == shown
    assert re.search(r"step 5/5 .* images/s", out)  # 1,255 images in batches of 256.


def test_every_sweep_is_there_and_validation_chose(finished):
    for result in results(finished[0])["results"]:
        sweep = result["sweep"]
        validation, test = np.array(sweep["validation"]), np.array(sweep["test"])
        assert validation.shape == test.shape == (len(test), len(sweep["choices"]))
        best = validation.mean(0).argmax()
        assert result["choice"] == sweep["choices"][best]
        assert result["test_top_1"] == pytest.approx(test.mean(0)[best])
        assert len(test) == (2 if result["shots"] else 1)
    assert result["choice"].keys() == {"penalty"}


def test_numbers_say_how_they_came_about(finished, weights):
    found = results(finished[0])
    assert found["config"]["weights"] == str(weights[0])
    assert {"jax", "scenax-models", "scenax-train"} <= found["versions"].keys()
    assert found["features"]["width"] == 64
    assert found["features"]["train"]["examples"] == 1255


def test_features_are_what_the_models_head_is_given(finished, weights, data_dir):
    _, model, variables = weights
    dataset = scenax.data.get_dataset("digits", batch_size=64, data_dir=str(data_dir))
    batch = next(iter(dataset.once("train")))
    logits = model.apply(variables, jnp.asarray(batch["inputs"]), train=False)
    head = variables["params"]["head"]
    (path,) = [path for path in cached(finished[0]) if path.name.startswith("train")]
    with np.load(path, allow_pickle=False) as arrays:
        found = arrays["features"][:64] @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
        np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(arrays["labels"][:64], batch["label"])


def test_the_report_needs_nothing_else(finished):
    class Links(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.found = []

        def handle_starttag(self, tag, attributes):
            self.found += [v for name, v in attributes if name in ("href", "src", "xlink:href")]

    page = (finished[0] / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert links.found
    assert all(link.startswith(("#", "data:")) for link in links.found)
    assert "5-shot ridge" in page


@pytest.fixture
def again(command, weights, finished, tmp_path):
    """A function that runs a second command in a copy of the finished folder."""
    folder = tmp_path / "again"
    shutil.copytree(finished[0], folder)

    def run(*arguments):
        quick = ("--config.methods=('ridge',)", f"--config.weights={weights[0]}")
        status, out, err = command(folder, *quick, *arguments)
        assert status == 0, err
        reused = results(folder)["features"]
        return out, [split for split in features.SPLITS if reused[split]["reused"]]

    run.folder = folder
    return run


def test_a_second_command_computes_no_features(again, finished, monkeypatch):
    monkeypatch.setattr(features, "extract_features", None)
    out, reused = again()
    assert reused == ["train", "validation", "test"]
    assert out.count(".npz") == 3
    before = {result["method"]: result for result in results(finished[0])["results"]}
    (after,) = results(again.folder)["results"]
    assert after["sweep"] == before["ridge"]["sweep"]


def test_only_what_is_missing_or_damaged_is_computed(again):
    paths = {path.name.partition("-")[0]: path for path in cached(again.folder)}
    paths["train"].write_bytes(paths["train"].read_bytes()[:5000])
    paths["test"].unlink()
    assert again()[1] == ["validation"]
    # A pickle is not read: it could run any code.
    np.savez(paths["test"], features=np.array([{}], object), labels=np.zeros(1, np.int32))
    assert again()[1] == ["train", "validation"]
    assert again()[1] == ["train", "validation", "test"]


def test_other_features_have_another_name(data_dir, weights, tmp_path):
    def name(**values):
        return features.make_task(smoke(**values), str(data_dir)).fingerprint

    folder = tmp_path / "weights"
    shutil.copytree(weights[0], folder)
    names = [
        name(),
        name(seed=1),  # Of random parameters.
        name(dataset__args={"classes": [0, 1]}),
        name(model__args=OPTIONS | {"global_pool": "token"}),
        name(weights=str(weights[0])),
        name(weights=str(folder)),
    ]
    shutil.copy(weights[0] / "model.safetensors", folder)  # As if trained on: it has a new time.
    names.append(name(weights=str(folder)))
    assert len({*names}) == len(names)
    assert name() == names[0]
    same = {"seed": 1, "batch_size": 7, "ridge__penalties": (1.0,), "weights": str(weights[0])}
    assert name(**same) == names[4]


def test_features_of_random_parameters_are_called_a_baseline(command, tmp_path):
    status, out, _ = command(
        tmp_path,
        "--config.methods=('ridge',)",
        "--config.model.name=fully_connected",
        "--config.model.args={}",
    )
    assert status == 0
    assert "random parameters, a baseline" in out
