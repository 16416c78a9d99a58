import json
from pathlib import Path

import numpy as np
import pytest

from scenax.models.metrics.panoptic import PanopticQuality

GOLDENS = Path(__file__).parent / "goldens"


def example(seed):
    """Returns panopticapi's figures, its classes, and the arguments of ``add`` by image."""
    facts = json.loads((GOLDENS / "metrics_panoptic.json").read_text())
    prediction = facts["predictions"][seed]
    images = {}
    with np.load(GOLDENS / "metrics_panoptic.npz") as file:
        for image_id, truth in facts["images"].items():
            named = prediction["classes"][image_id]
            images[image_id] = {
                "predicted_segments": file[f"predicted_{seed}/{image_id}"],
                "predicted_classes": {int(i): c for i, c in named.items()},
                "target_segments": file[f"target/{image_id}"],
                "target_classes": {int(i): c for i, c in truth["classes"].items()},
                "crowds": truth["crowds"],
            }
    settings = {"class_ids": facts["things"] + facts["stuff"], "thing_classes": facts["things"]}
    return prediction["panopticapi"], settings, images


def filled(settings, images):
    metric = PanopticQuality(**settings)
    for image in images:
        metric.add(**image)
    return metric


@pytest.mark.parametrize("seed", range(3))
def test_against_panopticapi(seed):
    reference, settings, images = example(seed)
    metric = filled(settings, images.values())
    figures = metric.compute()
    for group, suffix in {"All": "", "Things": "_things", "Stuff": "_stuff"}.items():
        for name in ("PQ", "SQ", "RQ"):
            wanted = reference[group][name.lower()]
            assert figures.pop(name + suffix) == pytest.approx(wanted, abs=1e-14)
            assert 0.05 < wanted < 0.95
    assert figures == {}
    per_class = metric.per_class()
    assert list(per_class) == sorted(settings["class_ids"])
    for c, values in per_class.items():
        wanted = reference["per_class"].get(str(c))
        for name, value in values.items():
            if wanted is None:
                assert np.isnan(value)
            else:
                assert value == pytest.approx(wanted[name.lower()], abs=1e-14)


def test_the_example_has_crowds_and_void_that_matter():
    _, settings, images = example(0)
    right = filled(settings, images.values()).compute()
    plain = [image | {"crowds": ()} for image in images.values()]
    assert filled(settings, plain).compute()["PQ"] != right["PQ"]
    for image in images.values():
        void = image["target_segments"] == 0
        image["target_segments"] = np.where(void, 99, image["target_segments"])
        image["target_classes"] = image["target_classes"] | {99: settings["class_ids"][0]}
    assert filled(settings, images.values()).compute()["PQ_stuff"] != right["PQ_stuff"]


def row(*ids):
    return np.asarray([ids])


def quality(predicted, named, target, classes, **rest):
    metric = PanopticQuality([1, 2, 7], [1])
    metric.add(predicted, named, target, classes, **rest)
    return metric


def test_a_perfect_prediction_whatever_the_ids():
    metric = quality(row(9, 9, 4, 0), {9: 1, 4: 2}, row(3, 3, 5, 0), {3: 1, 5: 2})
    figures = metric.compute()
    assert list(figures.values()) == [1.0] * 9
    assert np.isnan(metric.per_class()[7]["PQ"])


def test_hand_made_quality():
    # Class 1: of 4 true pixels 3 are found and 1 is too many: IoU 3/5. Class 2: all missed, and
    # half an IoU is not above half.
    metric = quality(
        row(1, 1, 1, 0, 1, 2, 2), {1: 1, 2: 2}, row(1, 1, 1, 1, 2, 2, 3), {1: 1, 2: 2, 3: 7}
    )
    assert metric.per_class() == {
        1: {"PQ": pytest.approx(0.6), "SQ": pytest.approx(0.6), "RQ": 1.0},
        2: {"PQ": 0.0, "SQ": 0.0, "RQ": 0.0},
        7: {"PQ": 0.0, "SQ": 0.0, "RQ": 0.0},
    }
    assert metric.compute()["PQ"] == pytest.approx(0.2)


def test_void_is_taken_out_of_predictions():
    # Three of six predicted pixels are void: the IoU is 3/3.
    metric = quality(row(1, 1, 1, 1, 1, 1), {1: 1}, row(4, 4, 4, 0, 0, 0), {4: 1})
    assert metric.compute()["PQ"] == 1.0
    # More than half void is ignored; exactly half counts as an invention.
    for voids, inventions in ((2, 1), (3, 0)):
        target = row(*[4] * (4 - voids), *[0] * voids)
        got = quality(row(1, 1, 1, 1), {1: 1}, target, {4: 2}).to_arrays()
        assert got["inventions"].tolist() == [inventions, 0, 0]
        assert got["misses"].tolist() == [0, 1, 0]


def test_crowds_are_never_missed_and_hide_inventions_of_their_class():
    for name, inventions in ((1, [0, 0, 0]), (2, [0, 1, 0])):
        metric = quality(row(8, 8, 8, 0), {8: name}, row(5, 5, 5, 0), {5: 1}, crowds=[5])
        arrays = metric.to_arrays()
        assert arrays["hits"].tolist() == arrays["misses"].tolist() == [0, 0, 0]
        assert arrays["inventions"].tolist() == inventions


def test_merging_is_adding():
    _, settings, images = example(1)
    one, *rest = (filled(settings, [image]) for image in images.values())
    for other in (*rest, PanopticQuality(**settings)):
        one.merge(other)
    np.testing.assert_equal(one.compute(), filled(settings, images.values()).compute())
    with pytest.raises(ValueError, match="Sums of 3 classes cannot be added"):
        one.merge(PanopticQuality([1, 2, 7], [1]))
    one.clear()
    with pytest.raises(ValueError, match="No segments were added"):
        one.compute()


def test_only_void_and_missing_groups():
    metric = quality(row(0, 0), {}, row(0, 0), {})
    with pytest.raises(ValueError, match="No segments were added"):
        metric.compute()
    metric.add(row(0, 0), {}, row(5, 0), {5: 1, 6: 1})  # one segment has lost its pixels
    figures = metric.compute()
    assert figures["PQ"] == figures["PQ_things"] == 0.0
    assert np.isnan(figures["PQ_stuff"])
    assert metric.to_arrays()["misses"].tolist() == [2, 0, 0]


def test_another_void():
    metric = PanopticQuality([0, 1], [0], void_id=-1)
    metric.add(row(0, 0, -1), {0: 0}, row(0, 0, -1), {0: 0})
    assert metric.compute()["PQ"] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted_classes": {}}, r"predicted segments \[3\] have no class"),
        ({"target_classes": {}}, r"target segments \[4\] have no class"),
        ({"predicted_classes": {3: 5}}, r"classes \[5\] are not in class_ids"),
        ({"target_classes": {4: 1, 0: 2}}, r"void \(0\) has a class"),
        ({"predicted_classes": {3: 1, 6: 1}}, r"segments \[6\] have a class and no pixel"),
        ({"crowds": [8]}, r"crowds \[8\] are no true segments"),
    ],
)
def test_errors_of_adding(change, message):
    image = {
        "predicted_segments": row(3, 0),
        "predicted_classes": {3: 1},
        "target_segments": row(4, 0),
        "target_classes": {4: 1},
    }
    PanopticQuality([1, 2], [1]).add(**image)
    with pytest.raises(ValueError, match=message):
        PanopticQuality([1, 2], [1]).add(**(image | change))


def test_errors_of_settings():
    with pytest.raises(ValueError, match=r"got \[1, 2\] and the things \[3\]"):
        PanopticQuality([1, 2], [3])
