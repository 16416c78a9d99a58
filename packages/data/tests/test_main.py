import os

import pytest

from scenax.data.__main__ import main


def test_browse_writes_a_page_and_says_where(tmp_path, capsys):
    path = tmp_path / "page.html"
    assert main(["browse", "digits", f"--out={path}", "--split=test", "--examples=5"]) == 0
    assert f"Wrote {path} (" in capsys.readouterr().out
    page = path.read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<figure ") == 5
    assert str(tmp_path) not in page
    assert os.environ["TFDS_DATA_DIR"] not in page


def test_the_page_is_named_after_the_dataset(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["browse", "digits", "--examples=1"]) == 0
    assert (tmp_path / "browse_digits.html").is_file()


@pytest.mark.parametrize("value", ['"semantic"', "semantic"])
def test_options_are_python_data_or_text(value, tmp_path, capsys):
    path = tmp_path / "page.html"
    flags = [f"--out={path}", "--split=validation", "--seed=3"]
    assert main(["browse", "digit_scenes", *flags, "--option", f"task={value}"]) == 0
    page = path.read_text()
    assert "<dt>task</dt><dd>semantic</dd>" in page
    assert "<dt>seed</dt><dd>3</dd>" in page
    assert "Pixels per class" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digit"], "Unknown dataset 'digit'. Did you mean 'digits'"),
        (["digits", "--option=augmnt=1"], "no option 'augmnt'. Did you mean 'augment'"),
        (["digits", "--option=augment"], "form KEY=VALUE, got 'augment'"),
        (["digits", "--examples=0"], "examples must be at least 1, got 0"),
        (["digits", "--out=/nowhere/page.html"], "There is no folder /nowhere"),
    ],
)
def test_errors_are_one_line(arguments, said, capsys):
    assert main(["browse", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_an_option_of_another_type_is_no_traceback(capsys):
    assert main(["browse", "digit_scenes", "--option=task=1"]) == 2
    assert "Error: digit_scenes cannot be made with these options" in capsys.readouterr().err


def test_data_that_are_not_prepared_are_no_traceback(tmp_path, capsys):
    assert main(["browse", "cifar10", f"--data_dir={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: cifar10 is not prepared in ")
    assert f"python -m scenax.data prepare cifar10 --data_dir={tmp_path}" in said
