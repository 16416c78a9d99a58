"""Every family against another implementation: what it computes and what it says of itself.

A family's files are in ``goldens/``; ``goldens/make.py`` says what they hold and makes them.
"""

import functools
import json
import math
import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import scenax.models
from scenax.common.flops import count_flops
from scenax.models import _catalog
from scenax.models.pretrained.timm import from_timm

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
SEEDED = runpy.run_path(str(GOLDENS / "seeded.py"))
FAMILIES = {
    path.stem: json.loads(path.read_text())
    for path in sorted(GOLDENS.glob("*.json"))
    if "." not in path.stem
}
CASES = [(family, case) for family, what in FAMILIES.items() for case in what["cases"]]
FACTS = {
    name: facts
    for family in FAMILIES
    if (GOLDENS / f"{family}.facts.json").exists()
    for name, facts in json.loads((GOLDENS / f"{family}.facts.json").read_text())["models"].items()
}
WITHOUT_ANOTHER = {"fully_connected"}
"""Families that no other implementation has: the tests of their own file are all there are."""


@functools.cache
def arrays_of(family):
    return dict(np.load(GOLDENS / f"{family}.npz"))


def pytest_generate_tests(metafunc):
    """Of the names that are traced at their published size, every twelfth, or each if asked for."""
    if "traced_name" in metafunc.fixturenames:
        every = metafunc.config.getoption("every_name")
        metafunc.parametrize("traced_name", list(FACTS)[:: 1 if every else 12])


def options_of(what):
    return {k: tuple(v) if isinstance(v, list) else v for k, v in what["options"].items()}


def assert_close(family, got, wanted):
    assert got.shape == wanted.shape
    assert wanted.std() > 0
    assert np.abs(got - wanted).max() <= FAMILIES[family]["tolerance"] * wanted.std()


@pytest.mark.parametrize(("family", "case"), CASES)
def test_logits_features_and_maps_are_theirs(family, case):
    what, arrays = FAMILIES[family]["cases"][case], arrays_of(family)
    name, options = what["model"], options_of(what)
    wanted = {k.split("/")[1]: v for k, v in arrays.items() if k.startswith(f"{case}/")}
    levels = sum(key.startswith("map") for key in wanted)
    assert bool(levels) == what.get("maps", True)

    models = {"logits": scenax.models.create_model(name, **options)}
    models["features"] = scenax.models.create_model(name, **{**options, "num_classes": 0})
    if levels:
        every = {"features_only": True, "out_indices": tuple(range(levels))}
        models["maps"] = scenax.models.create_model(name, **options, **every)

    shape = (2, *what["size"], options.get("in_chans", 3))
    shapes = json.loads(arrays["shapes"].tobytes())[case]
    state = {key: SEEDED["weight"](key, tuple(size)) for key, size in shapes.items()}
    variables = from_timm(state, models["logits"], shape[1:])
    images = jnp.asarray(SEEDED["images"](shape).astype(np.float32))

    @jax.jit  # Together, since they share nearly everything, and compiling takes the time.
    def run(variables, images):
        apply = {key: model.apply for key, model in models.items()}
        return {key: each(variables, images, train=False) for key, each in apply.items()}

    outputs = run(variables, images)
    assert_close(family, outputs["logits"], wanted["logits"])
    assert_close(family, outputs["features"], wanted["features"])
    if not levels:
        return
    assert len(outputs["maps"]) == len(models["maps"].feature_info) == levels
    for i, level in enumerate(models["maps"].feature_info):
        got = outputs["maps"][i]
        assert got.shape[3] == level["num_chs"]
        assert abs(got.shape[1] - images.shape[1] / level["reduction"]) < 1
        assert_close(family, SEEDED["sketch"](np.asarray(got)), wanted[f"map{i}"])


def test_every_family_has_another_to_agree_with():
    families = {module.rsplit(".", 1)[-1] for module in _catalog.families().values()}
    assert families - WITHOUT_ANOTHER == set(FAMILIES)
    mine = {n for n, m in _catalog.families().items() if m.rsplit(".", 1)[-1] in FAMILIES}
    assert mine == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_what_a_model_says_of_itself_is_theirs(name):
    facts, model = FACTS[name], scenax.models.create_model(name)
    assert model.num_features == facts["num_features"]
    assert model.head_hidden_size == facts["head_hidden_size"]
    info = [[level[k] for k in ("num_chs", "reduction", "module")] for level in model.feature_info]
    assert info == facts["feature_info"]


GMACS = {name: gmacs for what in FAMILIES.values() for name, gmacs in what["gmacs"].items()}
"""Of timm's tables, for an image of the published size."""


def test_parameters_outputs_and_multiply_adds_are_theirs(traced_name):
    """At its published size, traced once, without arrays."""
    name, facts = traced_name, FACTS[traced_name]
    model = scenax.models.create_model(name)
    cfg = model.default_cfg
    channels, *size = cfg["input_size"]
    shapes = {}

    def run(key, images):
        output, variables = model.init_with_output(key, images, train=False)
        leaves = traverse_util.flatten_dict(variables["params"], sep=".")
        shapes["params"] = {path: leaf.shape for path, leaf in leaves.items()}
        shapes["output"] = output.shape
        return output  # The rest is not counted.

    images = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    multiply_adds = count_flops(run, jax.random.key(0), images) / 2e9
    if name in GMACS:  # The table has two digits.
        assert multiply_adds == pytest.approx(GMACS[name], rel=0.02, abs=0.006)
    assert shapes["output"] == (1, cfg["num_classes"] or facts["head_hidden_size"])
    counts = {path: math.prod(shape) for path, shape in shapes["params"].items()}
    assert sum(counts.values()) == facts["parameters"]
    heads = [cfg["classifier"]] if isinstance(cfg["classifier"], str) else cfg["classifier"]
    paths = tuple(re.sub(r"\.(\d+)", r"_\1", head) + "." for head in heads)
    if not any(".fc." in path for path in paths):  # Where num_classes=0 leaves more out.
        last = sum(count for path, count in counts.items() if path.startswith(paths))
        assert sum(counts.values()) - last == facts["parameters_headless"]


def test_multiply_adds_are_of_names_that_there_are():
    assert len(GMACS) > 100
    assert GMACS.keys() <= FACTS.keys()
