import json

import pytest

from scenax.common.config import schema
from scenax.train import workdir


@schema
class Config:
    batch_size: int
    seed: int = 0


def test_a_new_folder_gets_the_config(tmp_path):
    workdir.claim(tmp_path / "a" / "run", Config(8), accept_changes=False)
    workdir.keep_config(tmp_path / "a" / "run", Config(8))
    written = json.loads((tmp_path / "a" / "run" / "config.json").read_text())
    assert written == {"batch_size": 8, "seed": 0}


def test_the_same_run_goes_on(tmp_path):
    for _ in range(2):
        workdir.claim(tmp_path, Config(8), accept_changes=False)
        workdir.keep_config(tmp_path, Config(8))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_another_run_is_refused_and_kept(tmp_path):
    workdir.keep_config(tmp_path, Config(8))
    with pytest.raises(
        workdir.WorkdirError, match=r"another run.*\n  batch_size: 8 there, 16 here"
    ) as e:
        workdir.claim(tmp_path, Config(16), accept_changes=False)
    assert "--workdir" in str(e.value)
    assert "--accept_config_changes" in str(e.value)
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 8

    workdir.claim(tmp_path, Config(16), accept_changes=True)
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 8


def test_checkpoints_of_nobody_knows_what_are_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(workdir.WorkdirError, match="what run they are of is not known"):
        workdir.claim(tmp_path, Config(8), accept_changes=False)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(workdir.WorkdirError, match=r"Cannot write to .*file/run.*--workdir"):
        workdir.claim(tmp_path / "file" / "run", Config(8), accept_changes=False)
