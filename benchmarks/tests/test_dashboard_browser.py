"""The dashboard's page in a browser: what is seen, clicked, typed, focused and linked."""

import json
import shutil
import statistics

import pytest
from benchmarks.dashboard import data, site, synthetic

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")

DAY = 86_400_000
COMMITS = [letter * 40 for letter in "abcd"]
# Commit by commit. Scores are 100 less the error, images a second 1000 by the milliseconds.
FIGURES = {
    "architectures.track_error": {
        "resnet18": [30.0, 30.0, 30.0, 25.0],
        "vit_tiny_patch16_224": [40.0, None, 39.0, 39.0],
        "swin_tiny_patch4_window7_224": [20.0, 20.0, 20.0, 20.0],
    },
    "cost.track_parameters": {
        "resnet18": [11_689_512.0] * 4,
        "vit_tiny_patch16_224": [5_717_416.0] * 4,
        "swin_tiny_patch4_window7_224": [28_288_354.0] * 4,
        "convnext_tiny": [28_589_128.0] * 4,
    },
    "cost.track_flops": {
        "resnet18": [3.6, 3.6, 3.6, 3.6],
        "vit_tiny_patch16_224": [2.0, 2.0, 2.5, 2.5],
        "swin_tiny_patch4_window7_224": [9.0, 9.0, 9.0, 9.0],
        "convnext_tiny": [8.9, 8.9, 8.9, None],
    },
    "architectures.track_training_time": {
        "resnet18": [10.0, 10.0, 10.0, 10.2],
        "vit_tiny_patch16_224": [10.0, 10.0, 10.0, 5.0],
    },
    "imports.timeraw_import": {"scenax.models": [0.05, 0.05, 0.05, 0.08]},
}


def write_results(folder):
    for machine, speed in (("small-cpu", 1), ("small-gpu", 10)):
        path = folder / machine
        path.mkdir(parents=True)
        (path / "machine.json").write_text(json.dumps({"machine": machine, "version": 1}))
        for index, commit in enumerate(COMMITS):
            rows = {}
            for benchmark, of_name in FIGURES.items():
                if machine == "small-gpu" and benchmark.endswith("error"):
                    continue
                scale = speed if "time" in benchmark else 1
                values = [row[index] and row[index] / scale for row in of_name.values()]
                rows[benchmark] = [values, [[repr(name) for name in of_name]], "1"]
            content = {
                "commit_hash": commit,
                "date": 1_767_225_600_000 + index * DAY,  # 2026-01-01
                "version": 2,
                "result_columns": ["result", "params", "version"],
                "results": rows,
                "versions": {"jax": f"0.{index}"},
            }
            (path / f"{commit[:8]}-uv.json").write_text(json.dumps(content))
    (folder / "benchmarks.json").write_text('{"imports.timeraw_import": {"unit": "seconds"}}')


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_results(folder / "results")
    site.write(data.read(folder / "results"), folder / "html", commit_url="https://x.example/c/")
    return (folder / "html" / "index.html").as_uri()


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    folder = tmp_path_factory.mktemp("big")
    synthetic.make(folder / "results", machines=1)
    site.write(data.read(folder / "results"), folder / "html")
    return (folder / "html" / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens addresses; afterwards nothing may have complained, or been fetched from elsewhere."""
    contexts, complaints, requests = [], [], []

    def open_page(address, **options):
        contexts.append(browser.new_context(**{"reduced_motion": "reduce"} | options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_selector("html[data-rendered]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def names(page, table="table"):
    return page.locator(f"{table} tbody th a").all_text_contents()


def hash_of(page):
    return page.evaluate("location.hash")


def cells(row):
    return row.locator("td").all_text_contents()


def cell(page, name, column):
    row = page.locator("tbody tr", has=page.get_by_role("link", name=name, exact=True))
    return row.locator("td").nth(column)


def test_the_table_says_what_is_and_what_changed(visit, small):
    page = visit(small)
    heads = page.locator("thead button").all_text_contents()
    assert [head.split()[0] for head in heads] == [
        "architecture", "score", "parameters", "FLOPs", "training",
    ]  # fmt: skip
    score = cell(page, "resnet18", 0)
    assert score.inner_text().split("\n")[0] == "75.0"
    assert score.locator(".better").text_content() == "▲+5.0\xa0pt better"
    assert score.locator("svg.spark path").count() == 2
    assert cell(page, "resnet18", 1).inner_text() == "11.7\xa0M"
    flops = cell(page, "vit_tiny_patch16_224", 2)
    assert flops.locator(".worse").text_content() == "▲+25\u202f% worse"
    # Two percent of a time is noise, and twice the speed is none.
    assert cell(page, "resnet18", 3).locator(".change").get_attribute("class").strip() == "change"
    assert cell(page, "vit_tiny_patch16_224", 3).inner_text().startswith("200")
    old = cell(page, "convnext_tiny", 2)
    assert old.inner_text() == "8.90\xa0G"
    assert "cccccccc" in old.get_attribute("title")
    assert "oldest commit here" in page.locator(".base").first.inner_text()


def test_what_has_most_figures_is_first_and_headers_sort(visit, small):
    page = visit(small)
    assert names(page) == [
        "resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_tiny",
    ]  # fmt: skip
    score = page.get_by_role("button", name="score")
    score.click()
    best_first = ["swin_tiny_patch4_window7_224", "resnet18", "vit_tiny_patch16_224"]
    assert names(page) == [*best_first, "convnext_tiny"]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("score")
    page.keyboard.press("Enter")  # It still has the focus.
    assert names(page) == [*reversed(best_first), "convnext_tiny"]
    assert hash_of(page) == "#/table?sort=score&dir=asc"
    page.go_back()
    assert names(page) == [*best_first, "convnext_tiny"]
    page.get_by_role("button", name="parameters").click()
    assert names(page)[0] == "vit_tiny_patch16_224"


def test_filters_and_their_deep_links(visit, small):
    page = visit(small)
    entries = page.evaluate("history.length")
    page.get_by_label("Name").press_sequentially("TINY swin")
    assert page.evaluate("history.length") == entries  # "Back" does not go letter by letter.
    assert names(page) == ["swin_tiny_patch4_window7_224"]
    assert page.locator("#count").inner_text() == "1 of 4 architectures"
    page.get_by_label("Name").fill("no such")
    assert page.locator("table").count() == 0
    page.get_by_role("button", name="Clear the filter").click()
    assert len(names(page)) == 4
    page.get_by_label("Family").select_option("vit")
    assert names(page) == ["vit_tiny_patch16_224"]
    page.go_back()
    assert len(names(page)) == 4
    assert page.get_by_label("Family").input_value() == ""
    page.get_by_label("only changed").check()
    assert names(page) == ["resnet18", "vit_tiny_patch16_224"]
    again = visit(small + hash_of(page) + "&family=resnet&task=classification")
    assert names(again) == ["resnet18"]
    assert again.get_by_label("only changed").is_checked()


def test_another_machine(visit, small):
    page = visit(small)
    page.get_by_label("Machine").select_option("small-gpu")
    assert hash_of(page) == "#/table?machine=small-gpu"
    assert cell(page, "resnet18", 2).inner_text().startswith("980")
    page.get_by_role("link", name="Scatter").click()
    assert page.locator(".plot svg").get_attribute("aria-label").startswith("parameters against")
    assert page.get_by_label("Machine").input_value() == "small-gpu"


def test_the_scatter_plot_shows_the_front(visit, small):
    page = visit(small + "#/scatter")
    assert page.get_by_label("Up").input_value() == "score"
    assert page.get_by_label("Right").input_value() == "flops"
    assert page.locator(".plot a").count() == 3
    # Each of the three costs more and is better.
    front = ["vit_tiny_patch16_224", "resnet18", "swin_tiny_patch4_window7_224"]
    assert names(page) == front
    page.get_by_label("Up").select_option("parameters")
    # Few parameters are good, and one has the fewest of both.
    assert names(page) == ["vit_tiny_patch16_224"]
    assert page.locator(".plot a").count() == 4
    assert page.locator(".ring").count() == 1
    page.locator("[name=xlog]").uncheck()
    assert hash_of(page) == "#/scatter?y=parameters&xlog=0"


def test_published_accuracy_against_a_figure(visit, small):
    page = visit(small + "#/scatter?y=top1&x=parameters")
    assert page.locator(".plot a").count() == 4
    top1 = dict(
        zip(names(page), page.locator("tbody td:last-child").all_text_contents(), strict=True)
    )
    assert top1["vit_tiny_patch16_224"] == "75.5"  # weights.csv: 75.452
    assert "as published" in page.locator("main").inner_text()


def test_points_answer_to_pointer_and_keys(visit, small):
    page = visit(small + "#/scatter")
    tip = page.locator(".tip")
    assert tip.is_hidden()
    box = page.locator(".plot a").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 6, box["y"] + box["height"] / 2 + 6)
    assert tip.inner_text() == "resnet18 resnet\nscore 75.0\xa0%\nFLOPs 3.60\xa0G"
    page.mouse.move(1, 1)
    assert tip.is_hidden()
    page.locator(".plot a").first.focus()
    assert "vit_tiny_patch16_224" in tip.inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert "swin_tiny" in tip.inner_text()
    assert page.locator(".plot a[tabindex='0']").count() == 1
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("h1")).to_have_text("vit_tiny_patch16_224")
    page.go_back()
    page.wait_for_selector(".plot a")
    box = page.locator(".plot a").nth(1).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2 + 10, box["y"] + box["height"] / 2)
    assert hash_of(page) == "#/model/resnet18"


def test_the_legend_filters(visit, small):
    page = visit(small + "#/scatter")
    page.get_by_role("button", name="resnet").click()
    assert page.locator(".plot a").count() == 1
    page.get_by_role("button", name="vit").click()
    assert page.locator(".plot a").count() == 2
    assert page.locator(".legend [aria-pressed=true]").all_text_contents() == ["resnet", "vit"]
    page.get_by_role("button", name="resnet").click()
    assert hash_of(page) == "#/scatter?family=vit"
    again = visit(small + "#/scatter?family=resnet%2Cvit")
    assert again.locator(".plot a").count() == 2


def test_a_model_s_history(visit, small):
    page = visit(small + "#/model/vit_tiny_patch16_224")
    flops = page.locator("[data-figure=flops]")
    assert "2.50\xa0G as before" in flops.locator(".reading").inner_text()
    flops.locator(".drawing").focus()
    page.keyboard.press("ArrowLeft")
    reading = flops.locator(".reading")
    assert "2.50\xa0G ▲+25\u202f% worse" in reading.text_content()
    assert "cccccccc 2026-01-03" in reading.inner_text()
    link = reading.get_by_role("link").get_attribute("href")
    assert link == "https://x.example/c/" + "c" * 40
    assert flops.locator(".regression").count() == 1
    assert "▲+25" in flops.locator(".regressions").inner_text()
    page.keyboard.press("ArrowLeft")
    assert hash_of(page).endswith("?at=bbbbbbbb")
    # All charts follow, and a gap is a gap: of the line, and under the cursor.
    score = page.locator("[data-figure=score]")
    assert "no figure" in score.locator(".reading").inner_text()
    line = score.locator("path.line").first.get_attribute("d")
    assert (line.count("M"), line.count("L")) == (2, 1)
    slider = flops.get_by_role("slider")
    assert slider.get_attribute("aria-valuetext") == "bbbbbbbb, 2026-01-02: 2.00\xa0G"
    again = visit(small + hash_of(page))
    assert "bbbbbbbb" in again.locator("[data-figure=flops] .reading").inner_text()


def test_the_pointer_moves_the_cursor(visit, small):
    page = visit(small + "#/model/resnet18")
    page.locator("[data-figure=flops] .drawing").scroll_into_view_if_needed()
    box = page.locator("[data-figure=flops] .drawing").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 40)
    assert "aaaaaaaa" in page.locator("[data-figure=score] .reading").inner_text()


def test_the_model_card(visit, small):
    page = visit(small + "#/model/resnet18")
    card = page.locator(".card")
    assert "ResNet" in card.inner_text()
    assert card.get_by_role("link", name="arXiv 1512.03385").get_attribute("href") == (
        "https://arxiv.org/abs/1512.03385"
    )
    assert "3 x 224 x 224" in card.inner_text()
    missing = visit(small + "#/model/%3Cb%3Eno")
    assert missing.locator("h1").inner_text() == "<b>no"


def test_two_commits(visit, small):
    page = visit(small + "#/compare?base=bbbb&head=dddd")
    rows = page.get_by_role("region", name="Changes").locator("tbody tr")
    assert names(page, "[aria-label=Changes]") == [
        "vit_tiny_patch16_224", "vit_tiny_patch16_224", "resnet18",
        "vit_tiny_patch16_224", "convnext_tiny",
    ]  # fmt: skip
    first, second, third, new, gone = map(cells, rows.all())
    assert first == ["training images/s", "100", "200", "▲+100\u202f% better"]
    assert second == ["FLOPs", "2.00\xa0G", "2.50\xa0G", "▲+25\u202f% worse"]
    assert third[:3] == ["score %", "70.0", "75.0"]
    assert new[-1] == "only in head"
    assert gone[-1] == "only in base"
    summary = page.locator("#summary").inner_text()
    assert summary == "1 worse · 2 better · 1 only in head · 1 only in base"
    assert "Base with jax 0.1; head with jax 0.3." in page.locator("main").inner_text()
    library = page.get_by_role("region", name="Library").locator("tbody tr")
    assert cells(library)[:3] == ["scenax.models", "50.0\xa0ms", "80.0\xa0ms"]
    page.get_by_label("only changed").uncheck()
    # All that either has: 2 + 1 scores and a new one, 4 + 4 counts, 2 speeds.
    assert rows.count() == 3 + 4 + 4 + 2
    page.get_by_label("Base").select_option("c" * 40)
    page.get_by_label("only changed").check()
    page.wait_for_function(
        "document.querySelectorAll('[aria-label=Changes] tbody tr').length === 3"
    )
    assert "base=" + "c" * 40 in hash_of(page)


def test_the_library_has_its_own_table(visit, small):
    page = visit(small + "#/library")
    row = page.locator("tbody tr")
    assert row.locator("th").inner_text() == "imports.timeraw_import"
    assert cells(row)[:2] == ["scenax.models", "80.0\xa0ms"]
    assert cells(row)[-1] == "▲+60\u202f% worse"


def test_themes(visit, small):
    page = visit(small, color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(colour) == "rgb(18, 21, 26)"
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(colour) == "rgb(246, 247, 249)"
    page.reload()
    assert page.evaluate(colour) == "rgb(246, 247, 249)"
    assert visit(small, color_scheme="light").evaluate(colour) == "rgb(246, 247, 249)"


def test_the_keyboard_reaches_everything_and_focus_is_seen(visit, small):
    page = visit(small)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the figures"
    assert page.locator("#skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.name || document.activeElement.textContent")
        )
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert seen[:5] == ["dddddddd", "q", "family", "task", "changed"]
    assert "score%" in [text.replace(" ", "") for text in seen]
    assert "resnet18" in seen


VIEWS = ("table", "scatter", "model/resnet50", "compare", "library")


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_s_page_does_not_scroll_sideways(visit, big, view):
    page = visit(f"{big}#/{view}", viewport={"width": 390, "height": 844})
    page.wait_for_selector("h1")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    if view == "table":
        box = page.locator(".scroll")
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
        box.evaluate("box => { box.scrollLeft = 500; }")
        assert page.locator("tbody th").first.bounding_box()["x"] < 20  # It stays.


def test_sparklines_are_drawn_where_one_looks(visit, big):
    page = visit(big)
    drawn = "document.querySelectorAll('svg.spark').length"
    assert page.locator("tbody tr").count() == 400
    assert 0 < page.evaluate(drawn) < 400
    page.locator("tbody tr").last.scroll_into_view_if_needed()
    last = page.locator("tbody tr").last.locator("svg.spark").first
    last.wait_for(state="attached")


def test_many_results_are_there_at_once(visit, big):
    """A second is the promise; this allows for what else the machine may do meanwhile."""
    times = [int(visit(big).locator("html").get_attribute("data-rendered")) for _ in range(3)]
    assert statistics.median(times) < 3000, times


def test_a_missing_file_is_told(browser, tmp_path):
    write_results(tmp_path / "results")
    site.write(data.read(tmp_path / "results"), tmp_path / "html")
    (tmp_path / "html" / "data" / "cards.js").unlink()
    page = browser.new_page()
    page.goto((tmp_path / "html" / "index.html").as_uri() + "#/model/resnet18")
    page.wait_for_selector("html[data-rendered]")
    assert "data/cards.js is not beside this page" in page.locator("main").inner_text()
    page.close()
