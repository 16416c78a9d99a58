"""What a user gets wrong is said clearly, at once, and costs nothing that was there."""

import shutil

import pytest

from scenax.train.writers import read_log

from ..evaluate import main as evaluate_main
from ..main import main
from .conftest import SMOKE


@pytest.fixture
def fails(capsys, data_dir, tmp_path):
    """A function that runs the command in this process and returns what it says as it fails."""

    def run(*arguments, workdir=tmp_path / "run", data=data_dir, config=SMOKE):
        flags = [f"--config={config}", f"--workdir={workdir}", f"--data_dir={data}"]
        assert main([*flags, *arguments]) == 1
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return captured.err

    return run


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--config.model.name=test_vitt", "Unknown model 'test_vitt'. Did you mean 'test_vit'"),
        ("--config.dataset.name=digit", "Unknown dataset 'digit'. Did you mean 'digits'"),
        ("--config.optimizer.name=adamv", "Unknown optimizer 'adamv'. Did you mean 'adam'"),
        ("--config.schedule.name=cosin", "Unknown schedule 'cosin'. Did you mean 'cosine'"),
        ("--config.batch_sise=8", "Unknown config key 'batch_sise'. Did you mean 'batch_size'"),
        ("--config.model.nam=x", "Unknown config key 'model.nam'. Did you mean 'name'"),
        ("--config.model.args.dept=3", "test_vit has no option 'dept'. Did you mean 'depth'"),
        ("--config.dataset.args.augmnt=affine", "no option 'augmnt'. Did you mean 'augment'"),
        ("--config.optimizer.args.weight_dcay=1", "has no option 'weight_dcay'. Did you mean"),
        ("--config.schedule.args.warmup=1", "has no option 'warmup'. Did you mean 'warmup_steps'"),
        ("--config.total_epochs=2", "total_steps=40 and total_epochs=2"),
        ("--config.total_steps=None", "got total_steps=None and total_epochs=None"),
        ("--config.schedule.args.warmup_epochs=1", "warmup_steps and warmup_epochs say the same"),
        ("--config.model.loss=hinge", "There is no loss 'hinge'"),
        ("--config.batch_size=many", "batch_size: Input should be a valid integer, got 'many'"),
        (
            "--config.batch_size=12",
            "batch_size must be a multiple of 8 (8 devices x 1 microbatches), got 12",
        ),
        ("--config.total_steps=-1", "-1"),
        ("--config.sharding=fdsp", "There is no sharding 'fdsp'. Did you mean 'fsdp'"),
        ("--config.sharding={'qvk': 'fsdp'}", "rule 'qvk' is for no array"),
        ("--config.model_parallel=3", "must divide the 8 devices"),
        ("--config.microbatches=7", "batch_size must be a multiple of 56"),
        ("--config.evaluators={'test': {'every': 5}}", "cannot be called 'test'"),
        ("--config.evaluators={'x': {'evry': 5}}", "Did you mean 'every'"),
        ("--config.selection={'metric': 'valid/loss'}", "'valid' is not evaluated"),
        ("--config.selection={'mode': 'least'}", "selection.mode"),
        ("--config.writers=['wandbb']", "Did you mean 'wandb'"),
        ("--process_count=2", "needs all of coordinator"),
        ("--profile_steps=5", "such as 10:20; got '5'"),
        ("--config.log_every=0", "log_every must be at least 1, got 0"),
        ("--config.model.args.patch_size=3", "sides divide by 3, got 8x8"),
        ("--config.model.args.num_heads=5", "multiple of num_heads, got 64 and 5"),
        ("--batch_size=8", "Unknown argument '--batch_size=8'"),
    ],
)
def test_a_wrong_argument_is_named(fails, argument, said):
    assert said in fails(argument)


def test_out_indices_out_of_range_are_named(fails):
    said = fails("--config.model.args.features_only=True", "--config.model.args.out_indices=(1, 9)")
    assert "out_indices=[1, 9] is out of range. There are 2 feature maps" in said


def test_a_config_that_is_not_there_names_the_closest(fails):
    said = fails(config=SMOKE.with_name("smok.py"))
    assert "Did you mean 'smoke.py'" in said


def test_a_folder_of_another_run_is_left_alone(fails, smoke_run, tmp_path):
    folder = tmp_path / "taken"
    shutil.copytree(smoke_run[0], folder)
    said = fails("--config.seed=7", workdir=folder)
    assert "seed: 0 there, 7 here" in said
    assert "--workdir" in said
    assert "--accept_config_changes" in said
    assert read_log(folder) == read_log(smoke_run[0])


def test_another_model_in_a_folder_is_an_error_even_if_accepted(fails, smoke_run, tmp_path):
    folder = tmp_path / "taken"
    shutil.copytree(smoke_run[0], folder)
    said = fails("--config.model.args.depth=1", "--accept_config_changes", workdir=folder)
    assert "of another model or optimizer" in said
    assert read_log(folder) == read_log(smoke_run[0])


@pytest.mark.parametrize("place", ["workdir", "data"])
def test_a_folder_that_cannot_be_written_is_named(fails, place):
    said = fails(**{place: "/proc/nowhere"})
    assert "/proc/nowhere" in said
    assert "--workdir" in said or "--data_dir" in said


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_checkpoint(fails, tmp_path):
    said = fails(
        "--config.optimizer.learning_rate=1e30",
        "--config.schedule.args.warmup_steps=20",  # The first steps are at rates near 0.
        "--config.save_every=1",
        "--config.optimizer.clip_norm=None",
    )
    assert "became NaN or infinite at step" in said
    steps = sorted(int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert f"the one of step {steps[-1]} in" in said


def test_evaluating_nothing_is_named(capsys, tmp_path):
    assert evaluate_main([f"--workdir={tmp_path}"]) == 1
    assert "There is no config file" in capsys.readouterr().err
