import dataclasses
import json

import pytest

from scenax.common import config as config_lib


@config_lib.schema
class Optimizer:
    name: str
    learning_rate: float = 0.1
    args: dict[str, object] = dataclasses.field(default_factory=dict)


@config_lib.schema
class Config:
    optimizer: Optimizer
    batch_size: int
    sizes: tuple[int, ...] = ()
    augment: bool = False
    clip: float | None = None


GOOD = {"optimizer": {"name": "sgd"}, "batch_size": 8}


def test_data_and_overrides_become_the_schema():
    overrides = config_lib.parse_overrides(
        [
            "--config.optimizer.learning_rate=1e-3",
            "--config.optimizer.args.momentum=0.5",
            "--config.sizes=(1, 2)",
            "--config.augment=True",
            "--config.clip=1",
        ]
    )
    assert config_lib.resolve(Config, GOOD, overrides) == Config(
        optimizer=Optimizer("sgd", 0.001, {"momentum": 0.5}),
        batch_size=8,
        sizes=(1, 2),
        augment=True,
        clip=1.0,
    )


def test_the_data_given_stay_as_they_are():
    config_lib.resolve(Config, GOOD, {"optimizer.name": "adam"})
    assert GOOD["optimizer"] == {"name": "sgd"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"batch_sise": 8}, r"Unknown config key 'batch_sise'\. Did you mean 'batch_size'\?"),
        (
            {"optimizer": {"name": "sgd", "lerning_rate": 1.0}},
            r"Unknown config key 'optimizer\.lerning_rate'\. Did you mean 'learning_rate'\?",
        ),
        ({"batch_size": "8"}, r"batch_size: Input should be a valid integer, got '8' of type str"),
        ({"batch_size": 8.5}, r"batch_size: .*integer.*got 8\.5 of type float"),
        ({"augment": 1}, r"augment: .*boolean.*got 1 of type int"),
        ({"sizes": [1, "x"]}, r"sizes\.1: .*integer.*got 'x' of type str"),
        ({"optimizer": 3}, r"optimizer: .*got 3 of type int"),
        ({"optimizer": {}}, r"The config lacks 'optimizer\.name', which has no default"),
        ({"clip": object()}, r"plain data only.*object"),
    ],
)
def test_what_does_not_fit_is_named(data, message):
    with pytest.raises(config_lib.ConfigError, match=message):
        config_lib.resolve(Config, GOOD | data, {})


def test_every_problem_is_named_at_once():
    with pytest.raises(config_lib.ConfigError) as error:
        config_lib.resolve(Config, {"batch_sise": 8, "augment": "yes"}, {})
    assert len(str(error.value).splitlines()) == 4  # Two wrong, two missing.


def test_an_override_is_checked_too():
    with pytest.raises(config_lib.ConfigError, match="Did you mean 'batch_size'"):
        config_lib.resolve(Config, GOOD, {"batchsize": 8})
    with pytest.raises(config_lib.ConfigError, match=r"batch_size\.x: batch_size holds a value"):
        config_lib.resolve(Config, GOOD, {"batch_size.x": 8})


@pytest.mark.parametrize("argument", ["--batch_size=8", "--config.batch_size", "--config.=3"])
def test_an_argument_of_another_form_is_named(argument):
    with pytest.raises(config_lib.ConfigError, match=r"--config\.KEY=VALUE"):
        config_lib.parse_overrides([argument])


def test_a_file_of_python_and_a_file_of_json_load_the_same(tmp_path):
    (tmp_path / "run.py").write_text(f"def get_config():\n    return {GOOD!r}\n")
    (tmp_path / "run.json").write_text(json.dumps(GOOD))
    assert config_lib.load(tmp_path / "run.py") == config_lib.load(tmp_path / "run.json") == GOOD


def test_what_is_saved_loads_and_resolves_to_the_same(tmp_path):
    config = config_lib.resolve(Config, GOOD, {"sizes": (3, 4)})
    config_lib.save(config, tmp_path / "config.json")
    assert config_lib.resolve(Config, config_lib.load(tmp_path / "config.json"), {}) == config


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rum.py", None, r"no config file .*rum\.py\. Did you mean 'run\.py'"),
        ("a.yaml", "", r"ends in \.py or \.json"),
        ("a.json", "{", "is not JSON"),
        ("a.py", "x = 1", r"no function get_config\(\)"),
    ],
)
def test_a_file_that_does_not_serve_is_named(tmp_path, name, text, message):
    (tmp_path / "run.py").write_text("")
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(config_lib.ConfigError, match=message):
        config_lib.load(tmp_path / name)
