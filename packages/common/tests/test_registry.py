import subprocess
import sys

import pytest

from scenax.common.registry import Registry, RegistryError, closest, did_you_mean


def shape_registry() -> Registry:
    shapes = Registry("shape")
    for name in ("square", "circle", "triangle"):
        shapes.register(name)(lambda name=name: name)
    return shapes


def test_get_returns_the_registered_callable_itself():
    shapes = Registry("shape")

    @shapes.register("line")
    def line():
        return "a line"

    assert shapes.get("line") is line
    assert line() == "a line"


def test_iteration_names_and_length_are_sorted_whatever_the_order_of_entry():
    shapes = shape_registry()
    shapes.register_lazy("arc", "math:sqrt")
    assert list(shapes) == shapes.names() == ["arc", "circle", "square", "triangle"]
    assert len(shapes) == 4
    assert "arc" in shapes
    assert "sphere" not in shapes
    assert 3 not in shapes


@pytest.mark.parametrize("lazy_first", [True, False])
@pytest.mark.parametrize("lazy_second", [True, False])
def test_a_name_can_be_taken_once(lazy_first, lazy_second):
    shapes = Registry("shape")

    def enter(lazy):
        if lazy:
            shapes.register_lazy("square", "math:sqrt")
        else:
            shapes.register("square")(abs)

    enter(lazy_first)
    first = shapes.get("square")
    with pytest.raises(RegistryError, match="shape 'square' is registered already"):
        enter(lazy_second)
    assert shapes.get("square") is first
    assert len(shapes) == 1


def test_an_unknown_name_is_answered_with_the_closest():
    with pytest.raises(RegistryError, match=r"^Unknown shape 'sqare'\. Did you mean 'square'\?$"):
        shape_registry().get("sqare")


def test_an_unknown_name_like_none_is_answered_with_all():
    with pytest.raises(RegistryError, match="There are 'circle', 'square', 'triangle'"):
        shape_registry().get("xyz")


def test_a_registry_without_entries_says_so():
    with pytest.raises(RegistryError, match="There are none"):
        Registry("shape").get("square")


def test_registry_errors_are_value_errors():
    with pytest.raises(ValueError, match="Unknown shape"):
        shape_registry().get("xyz")


def test_a_lazy_entry_is_imported_on_get_and_only_then(tmp_path, monkeypatch):
    (tmp_path / "scenax_lazy_probe.py").write_text("def make():\n    return 'made'\n")
    monkeypatch.syspath_prepend(tmp_path)
    probes = Registry("probe")
    probes.register_lazy("probe", "scenax_lazy_probe:make")
    assert (list(probes), len(probes), "probe" in probes) == (["probe"], 1, True)
    with pytest.raises(RegistryError):
        probes.get("prob")
    assert "scenax_lazy_probe" not in sys.modules
    try:
        make = probes.get("probe")
        assert make() == "made"
        assert sys.modules["scenax_lazy_probe"].make is make
        assert probes.get("probe") is make
    finally:
        sys.modules.pop("scenax_lazy_probe", None)


def test_closest_is_best_first_and_bounded():
    names = ["resnet18", "resnet34", "resnet50", "resnet101", "vit_tiny"]
    assert closest("resnet5", names)[0] == "resnet50"
    assert len(closest("resnet", names)) == 3
    assert closest("resnet", names, count=1)[0].startswith("resnet")
    assert closest("zzz", names) == []


def test_a_long_list_of_names_is_cut():
    message = did_you_mean("zzz", [f"name_{i:02}" for i in range(30)])
    assert "'name_19', ..." in message
    assert "name_20" not in message


def test_a_single_name_reads_as_a_sentence():
    assert did_you_mean("zzz", ["square"]) == "There is 'square'."


def test_the_registry_needs_no_array_library():
    code = "import sys, scenax.common.registry; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
