"""What a user gets wrong is said clearly, with exit status 1 and no traceback."""

import numpy as np
import pytest

import scenax.data
from scenax.data import pipeline
from scenax.data.examples import ArraySource

from .conftest import SMOKE


@pytest.fixture
def fails(command, tmp_path):
    """A function that runs the command and returns what it says as it fails."""

    def run(*arguments, output=tmp_path, config=SMOKE):
        status, _, err = command(output, *arguments, config=config)
        assert status == 1
        return err

    return run


def register(name, splits, label, targets="class_id"):
    """Registers a dataset of four images in every split."""

    @scenax.data.register(name)
    def dataset(reading):
        images = np.zeros((len(label), 8, 8, 1), np.float32)
        sources = {split: ArraySource({"inputs": images, "label": label}) for split in splits}
        counts = dict.fromkeys(splits, len(label))
        info = pipeline.DatasetInfo(name, (8, 8, 1), "float32", 2, ("a", "b"), counts, targets)
        return pipeline.PipelineDataset(reading, info, sources)


ALL = ("train", "validation", "test")
IDS = np.array([0, 1, 0, 1], np.int32)
register("transfer_test_two_splits", ("train", "test"), IDS)
register("transfer_test_several", ALL, np.ones((4, 2), np.float32), targets="multi_hot")
register("transfer_test_few", ALL, IDS)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--config.model.name=test_vitt", "Unknown model 'test_vitt'. Did you mean 'test_vit'"),
        ("--config.model.args.dept=3", "test_vit has no option 'dept'. Did you mean 'depth'"),
        ("--config.dataset.name=digit", "Unknown dataset 'digit'. Did you mean 'digits'"),
        ("--config.dataset.args.imgsize=8", "no option 'imgsize'. Did you mean 'image_size'"),
        ("--config.methods=('ridg',)", "should be 'nearest_neighbors', 'ridge', 'linear_probe'"),
        ("--config.ridge.penalty=1", "Unknown config key 'ridge.penalty'. Did you mean 'penalties"),
        ("--config.weights=/nowhere/x.npz", "no file, no folder and no model '/nowhere/x.npz'"),
        ("--config.weights=test_vit.r1_in1k", "no weights tagged 'r1_in1k'. Did you mean 'r160_in"),
        ("--config.preprocessing=weights", "images of 8 bits, and this dataset gives float32. Set"),
        ("--config.batch_size=0", "batch_size counts the examples of all hosts"),
        ("--config.model.args.img_size=16", "made for images of 16x16x1, got 8x8x1"),
        ("--config.dataset.name=transfer_test_two_splits", "lacks validation, it has train, test"),
        ("--config.dataset.name=transfer_test_several", "one label per example"),
        ("--batch_size=8", "Unknown argument '--batch_size=8'"),
    ],
)
def test_a_wrong_argument_is_named(fails, argument, said):
    assert said in fails(argument)


def test_options_that_do_not_fit_the_data_are_named(fails):
    few = ("--config.dataset.name=transfer_test_few", "--config.model.name=fully_connected")
    few += ("--config.model.args={}",)
    assert "numbers of neighbours from 1 to 4" in fails(*few)
    methods = "--config.methods=('few_shot',)"
    assert "class 0 has 2, class 1 has 2. Choose shots up to 2" in fails(*few, methods)
    wrong = ("--config.methods=('ridge',)", "--config.ridge.penalties=(0.0,)")
    assert "penalties have to be positive" in fails(*few, *wrong)


def test_weights_of_another_model_are_named(fails, weights):
    said = fails(f"--config.weights={weights[0]}", "--config.model.args.depth=2")
    assert "missing: params/blocks_1" in said


def test_a_folder_that_cannot_be_written_is_named(fails):
    said = fails(output="/proc/nowhere")
    assert "Cannot write to /proc/nowhere" in said
    assert "--output" in said


def test_a_config_that_is_not_there_names_the_closest(fails):
    assert "Did you mean 'smoke.py'" in fails(config=SMOKE.with_name("smok.py"))
