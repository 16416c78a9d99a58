import io
import time

from rich.console import Console

from scenax.train.progress import Progress, Stopwatch


def test_a_stopwatch_counts_on_and_not_while_paused():
    watch = Stopwatch(100.0)
    assert 100 <= watch.seconds < 100.2
    with watch.paused():
        time.sleep(0.3)
    assert watch.seconds < 100.2


def test_a_console_that_is_no_terminal_gets_a_line_now_and_then():
    text = io.StringIO()
    with Progress(Console(file=text, width=30), 100, unit="images") as progress:
        for step in range(1, 101):
            progress.update(step, {"loss": 1 / step, "grad_norm": 3.0}, rate=512.4)
    lines = text.getvalue().splitlines()
    assert len(lines) == 2  # The first and the last, as no ten seconds passed between them.
    assert lines[0].startswith("step 1/100  loss 1.0000  512 images/s  ")
    assert lines[1] == "step 100/100  loss 0.0100  512 images/s  0 s left"


def test_a_terminal_gets_a_bar_and_no_lines():
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True)
    with Progress(console, 10, unit="images") as progress:
        progress.update(5, {"loss": 0.25}, rate=512.4)
    shown = text.getvalue()
    assert "step 5/10" in shown
    assert "loss 0.2500  512 images/s" in shown
    assert "s left" not in shown


def test_an_input_that_holds_the_devices_back_is_told_once():
    text = io.StringIO()
    with Progress(Console(file=text, width=30), 30) as progress:
        progress.update(10, {}, rate=1.0, input_share=0.05)
        assert "input" not in text.getvalue()
        progress.update(20, {}, rate=1.0, input_share=0.43)
        progress.update(30, {}, rate=1.0, input_share=0.6)
    told = [line for line in text.getvalue().splitlines() if "input" in line]
    assert len(told) == 1
    assert "waited for it 43% of the time up to step 20" in told[0]
