"""What is a regression and what is noise."""

import math

import numpy as np
import pytest
from benchmarks import compare
from benchmarks.dashboard import data

BASE, HEAD = "a" * 40, "b" * 40


def machine(**figures):
    commits = [data.Commit(BASE, 1), data.Commit(HEAD, 2)]
    return data.Machine("cpu", {}, commits, figures, {}, [{}, {}])


def runs(rng, *, factor=1.0, noise=0.1):
    """A machine whose pace changes slowly, by far more than the time from run to run."""

    def measure(count):
        pace = np.exp(np.cumsum(rng.normal(0, 0.2, count)))
        base, head = pace * rng.lognormal(0, noise, (2, count))
        return base, head * factor

    return measure


def test_equal_programs_on_a_noisy_machine_are_no_alarm():
    rng = np.random.default_rng(0)
    assert not any(compare.judge(runs(rng))[1] for _ in range(1000))


@pytest.mark.parametrize(("factor", "found"), [(1.3, 1.0), (1.03, 0.0)])
def test_a_slower_program_is_found_and_a_hardly_slower_one_is_not(factor, found):
    rng = np.random.default_rng(1)
    verdicts = [compare.judge(runs(rng, factor=factor, noise=0.06))[1] for _ in range(200)]
    assert np.mean(verdicts) == found


def test_one_slow_run_is_no_slower_program():
    head = [1.0] * 11 + [9.0]
    assert compare.is_slower([1.0] * 12, head) == (False, 1.0)


def test_errors_differ_by_more_than_their_seeds_do():
    # Both have variance 2.5, so the means' difference has a deviation of sqrt(2 * 2.5 / 5) = 1.
    base = [10.0, 11.0, 12.0, 13.0, 14.0]
    assert compare.is_worse(base, [each + 2.9 for each in base]) == (False, pytest.approx(3.0))
    assert compare.is_worse(base, [each + 3.1 for each in base]) == (True, pytest.approx(3.0))
    assert compare.is_worse(base, [each - 9 for each in base])[0] is False


def test_errors_that_hardly_vary_have_a_floor():
    assert compare.is_worse([5.0] * 5, [5.9] * 5) == (False, compare.POINTS)
    assert compare.is_worse([5.0] * 5, [6.1] * 5) == (True, compare.POINTS)


def test_counts_that_grew_are_worse_and_gaps_are_not():
    figures = {
        "cost.track_parameters": {"a": [10.0, 11.0], "b": [10.0, 9.0], "c": [None, 5.0]},
        "cost.track_flops": {"a": [2.0, 2.0]},
        "architectures.track_error": {"a": [2.0, 20.0]},
    }
    found = compare.grown_counts(machine(**figures), BASE, HEAD)
    assert [(each.model, each.title, each.worse) for each in found] == [
        ("a", "parameters", True),
        ("b", "parameters", False),
    ]
    text = compare.report(BASE, HEAD, found[::-1])
    assert "**1 figures are worse.**" in text
    assert "| worse | `a` | parameters | 10 parameters | 11 parameters | +10.00 % |" in text
    assert text.index("`a`") < text.index("`b`")


def test_nothing_changed_is_said():
    assert "Nothing that is measured has changed." in compare.report(BASE, HEAD, [])


def test_a_report_of_a_change_in_every_architecture_is_a_comment_on_github():
    name = "vit_gigantic_patch14_clip_quickgelu_224.its_longest_tag_in1k"
    figures = {"cost.track_activations": {f"{name}_{i}": [275.372, 376.429] for i in range(1000)}}
    text = compare.report(BASE, HEAD, compare.grown_counts(machine(**figures), BASE, HEAD))
    assert "**1000 figures are worse.**" in text
    assert text.endswith("\n\nAnd 900 more.\n")
    assert len(text) < 65_536


def test_only_errors_beyond_a_point_are_trained_again():
    figures = {"architectures.track_error": {"a": [5.0, 5.9], "b": [5.0, 9.0], "c": [9.0, 5.0]}}

    class Pair:
        commits = BASE, HEAD
        asked = ()

        def errors(self, model):
            self.asked += (model,)
            return [[5.0, 5.2, 4.8, 5.1, 4.9], [9.0, 9.2, 8.8, 9.1, 8.9]]

    pair = Pair()
    (found,) = compare.worse_errors(pair, machine(**figures), ["a", "b", "c"])
    assert pair.asked == ("b",)
    assert found.worse
    assert math.isclose(found.head - found.base, 4.0)


def test_results_of_other_benchmarks_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "FOLDER", tmp_path)
    compare.forget_other_benchmarks()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.json").write_text("{}")
    compare.forget_other_benchmarks()
    assert (tmp_path / "results" / "a.json").exists()
    monkeypatch.setattr(compare.catalog, "small_copies", lambda: [("vit", {"depth": 3})])
    compare.forget_other_benchmarks()
    assert not (tmp_path / "results").exists()


def test_a_name_that_is_no_commit_is_an_error():
    with pytest.raises(SystemExit, match="'nowhere' is no commit here"):
        compare.commit_of("nowhere")
