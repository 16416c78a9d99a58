"""The dashboard's data and files, from small results made by hand; the page is tested elsewhere."""

import base64
import hashlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
from types import SimpleNamespace

import asv.results
import pytest
from benchmarks.dashboard import cards, data, series, site, synthetic, vendor
from benchmarks.figures import BY_BENCHMARK

ERROR = BY_BENCHMARK["architectures.track_error"]
FLOPS = BY_BENCHMARK["cost.track_flops"]
TRAINING = BY_BENCHMARK["architectures.track_training_time"]
COMMITS = ["a" * 40, "b" * 40, "c" * 40]
NAMES = ["resnet18", "vit_tiny_patch16_224", "old_net"]


def write_run(folder, commit, date, values, *, machine="here", env="uv", version="1", **more):
    """Writes a result file by hand: values are {benchmark: {parameter: value}}."""
    rows = {
        benchmark: [
            list(of_name.values()),
            [[repr(name) for name in of_name]],
            version,
            more.get("started_at", 5),
        ]
        for benchmark, of_name in values.items()
    }
    content = {
        "commit_hash": commit,
        "date": date,
        "version": 2,
        "result_columns": ["result", "params", "version", "started_at"],
        "results": rows,
        **{key: more[key] for key in ("versions", "conditions") if key in more},
    }
    path = folder / machine
    path.mkdir(parents=True, exist_ok=True)
    (path / "machine.json").write_text(
        json.dumps({"machine": machine, "arch": "x86_64", "ram": "24GB", "version": 1})
    )
    (path / f"{commit[:8]}-{env}.json").write_text(json.dumps(content))


@pytest.fixture
def results(tmp_path):
    """Three commits, written in another order than their dates'."""
    folder = tmp_path / "results"
    flops = [[2.0, 3.0, 1.0], [2.0, 3.3, 1.0], [2.0, 3.3, None]]
    error = [[30.0, 40.0], [None, 40.5], [20.0, 39.5]]
    imports = [0.030, 0.031, 0.060]
    for index in (2, 0, 1):
        write_run(
            folder,
            COMMITS[index],
            1_700_000_000_000 + index * 86_400_000,
            {
                "cost.track_flops": dict(zip(NAMES, flops[index], strict=True)),
                "architectures.track_error": dict(zip(NAMES[:2], error[index], strict=True)),
                "imports.timeraw_import": {"scenax.common": imports[index]},
            },
            versions={"jax": f"0.{index}"},
            conditions={"batch": 8},
        )
    units = {"imports.timeraw_import": {"unit": "seconds", "version": "1"}, "version": 2}
    (folder / "benchmarks.json").write_text(json.dumps(units))
    return folder


def overview(folder):
    return site.overview_of(data.read(folder))


def test_commits_are_in_the_order_of_their_dates_and_gaps_are_gaps(results):
    (machine,) = data.read(results).machines
    assert [commit.hash for commit in machine.commits] == COMMITS
    assert machine.figures["architectures.track_error"]["resnet18"] == [30.0, None, 20.0]
    assert machine.figures["cost.track_flops"]["old_net"] == [1.0, 1.0, None]
    assert machine.library == {("imports.timeraw_import", "scenax.common"): [0.030, 0.031, 0.060]}
    assert machine.notes[2] == {"versions": {"jax": "0.2"}, "conditions": {"batch": 8}}
    assert machine.fields == {"arch": "x86_64", "ram": "24GB"}


def test_a_commit_without_a_benchmark_is_a_gap(results):
    write_run(results, "d" * 40, 1_800_000_000_000, {"cost.track_flops": {"resnet18": 2.5}})
    (machine,) = data.read(results).machines
    assert machine.figures["cost.track_flops"]["resnet18"] == [2.0, 2.0, 2.0, 2.5]
    assert machine.figures["architectures.track_error"]["resnet18"][-1] is None


def test_files_that_asv_saved_can_be_read(tmp_path):
    benchmark = {
        "name": "cost.track_flops",
        "version": "1",
        "params": [["'resnet18'", "'resnet34'"]],
    }
    params = {"machine": "here"}
    saved = asv.results.Results(params, {}, COMMITS[0], 1_700_000_000_000, "3.11", "uv", {})
    result = SimpleNamespace(
        result=[2.0, float("nan")],
        samples=[None, None],
        number=[None, None],
        stderr="",
        errcode=0,
        profile=None,
    )
    saved.add_result(benchmark, result)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "machine.json").write_text('{"machine": "here", "version": 1}')
    saved.save(str(tmp_path))
    (machine,) = data.read(tmp_path).machines
    assert machine.figures["cost.track_flops"] == {"resnet18": [2.0], "resnet34": [None]}


def test_of_two_environments_the_newer_run_of_each_benchmark_counts(results):
    write_run(
        results,
        COMMITS[0],
        1_700_000_000_000,
        {"cost.track_flops": {"resnet18": 7.0}},
        env="newer",
        started_at=9,
    )
    write_run(
        results,
        COMMITS[0],
        1_700_000_000_000,
        {"architectures.track_error": {"resnet18": 99.0}},
        env="older",
        started_at=1,
    )
    (machine,) = data.read(results).machines
    assert machine.figures["cost.track_flops"]["resnet18"][0] == 7.0
    assert machine.figures["architectures.track_error"]["resnet18"][0] == 30.0


def test_another_version_of_a_benchmark_is_not_compared(results):
    write_run(
        results,
        COMMITS[2],
        1_700_000_000_000 + 2 * 86_400_000,
        {"imports.timeraw_import": {"scenax.common": 1.0}},
        version="2",
    )
    (machine,) = data.read(results).machines
    assert machine.library["imports.timeraw_import", "scenax.common"][-1] is None


def test_a_file_that_cannot_be_read_is_named(results, capsys, tmp_path):
    broken = results / "here" / "dddddddd-uv.json"
    for content in ("{", "[]", '{"version": 1}', '{"version": 2, "results": {}}'):
        broken.write_text(content)
        assert site.main(["--results", str(results), "--out", str(tmp_path / "out")]) == 1
        assert str(broken) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_more_values_than_parameters_are_an_error(results):
    path = results / "here" / f"{COMMITS[0][:8]}-uv.json"
    content = json.loads(path.read_text())
    content["results"]["cost.track_flops"][0].append(1.0)
    path.write_text(json.dumps(content))
    with pytest.raises(data.ResultsError, match=re.escape(str(path))):
        data.read(results)


def test_no_results_are_an_error(tmp_path, capsys):
    assert site.main(["--results", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    assert "There are no results in" in capsys.readouterr().err
    assert not (tmp_path / "index.html").exists()


def test_a_folder_without_its_machine_is_an_error(results):
    (results / "here" / "machine.json").unlink()
    with pytest.raises(data.ResultsError, match=re.escape("machine.json")):
        data.read(results)


def git(folder, *arguments, date="2024-01-01T00:00:00Z"):
    environment = {
        "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_DATE": date,
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
    }
    identity = ["-c", "user.name=A", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """Three commits of one second, the second of which is a release of one package."""
    git(tmp_path, "init", "-q")
    hashes = []
    for subject in ("first", "second <b>", "third"):
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", subject)
        hashes.append(git(tmp_path, "rev-parse", "HEAD"))
    git(tmp_path, "tag", "-a", "models-v0.2.0", "-m", "x", hashes[1])
    git(tmp_path, "tag", "not-a-release", hashes[1])
    git(tmp_path, "tag", "v9", hashes[2])
    for index, commit in enumerate(hashes):
        flops = {"cost.track_flops": {"resnet18": 2.0 + index}}
        write_run(tmp_path / "results", commit, 1_704_067_200_000, flops)
    return tmp_path / "results", hashes


def test_subjects_tags_and_order_are_git_s(repository):
    folder, hashes = repository
    (machine,) = data.read(folder).machines
    assert [commit.hash for commit in machine.commits] == hashes
    assert [commit.subject for commit in machine.commits] == ["first", "second <b>", "third"]
    assert [commit.tags for commit in machine.commits] == [(), ("models-v0.2.0",), ("v9",)]


def test_changes_are_since_the_last_release_that_is_not_the_newest(repository):
    (machine,) = overview(repository[0])["machines"]
    assert machine["base"] == 1
    assert machine["figures"]["flops"]["base"] == [3_000_000_000]
    assert machine["figures"]["flops"]["value"] == [4_000_000_000]


def test_without_releases_changes_are_since_the_oldest(results):
    (machine,) = overview(results)["machines"]
    assert machine["base"] == 0
    names = [name for name, *_ in overview(results)["models"]]
    assert names == sorted(NAMES)
    score = dict(zip(names, zip(*machine["figures"]["score"].values(), strict=True), strict=True))
    assert score["resnet18"][:3] == (80, 0, 70)
    assert score["vit_tiny_patch16_224"][:3] == (60.5, 0, 60)
    assert score["old_net"][0] is None
    flops = machine["figures"]["flops"]
    assert flops["value"][names.index("old_net")] == 1e9
    assert flops["age"][names.index("old_net")] == 1


def test_families_and_those_that_the_registry_has_no_more(results):
    assert {name: family for name, family, _ in overview(results)["models"]} == {
        "resnet18": "resnet",
        "vit_tiny_patch16_224": "vit",
        "old_net": "retired",
    }


def test_the_machine_with_the_most_figures_is_first(results):
    write_run(results, COMMITS[0], 1_700_000_000_000, {"cost.track_flops": {"a": 1}}, machine="a")
    assert [machine["name"] for machine in overview(results)["machines"]] == ["here", "a"]


def test_keys_of_figures_differ():
    keys = [series.key_of(figure) for figure in BY_BENCHMARK.values()]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "score"


@pytest.mark.parametrize(
    ("figure", "values", "expected"),
    [
        (FLOPS, [2.0, 2.0, 2.0002, None, 2.0002], [(2, 2e9, 2.0002e9)]),
        (FLOPS, [2.0, 1.0, 1.0], []),
        # 10 and 12.5 ms are 100 and 80 images a second.
        (TRAINING, [10.0] * 8 + [12.5] * 8, [(8, 100, 80)]),
        (TRAINING, [10.0] * 8 + [10.5] * 8, []),
        (TRAINING, [10.0] * 8 + [8.0] * 8, []),
        (TRAINING, [10.0] * 8 + [14.0] + [10.0] * 8, []),
        (ERROR, [20.0] * 8 + [23.0] * 8, [(8, 80, 77)]),
        (ERROR, [20.0] * 8 + [21.5] * 8, []),
        (ERROR, [None, None], []),
    ],
)
def test_regressions(figure, values, expected):
    assert [tuple(row) for row in series.regressions(figure, values)] == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1, 1], ""),
        ([None, None], ""),
        ([1, None, 2], "0.f"),
        # Noise of 1 where 8 is the least that fills the height stays in the middle.
        ([8, 9], "78"),
        (list(range(80)), "".join(f"{round((2 * i + 1) / 79 * 15):x}" for i in range(40))),
    ],
)
def test_sparklines(values, expected):
    least = 8 if values == [8, 9] else 0
    # The last value of two stands for both; and so the first digit is of 1.
    assert series.sparkline(values, lambda _: least) == expected


def test_a_time_of_nothing_is_a_gap():
    assert series.shown(TRAINING, [0.0, 10.0]) == [None, 100]


def read_script(path):
    name, content = re.fullmatch(
        r"scenax\.receive\((\".*?\"), (.*)\);\n", path.read_text()
    ).groups()
    return json.loads(name), json.loads(content)


def test_the_site(results, tmp_path):
    out = tmp_path / "html"
    (out / "asv").mkdir(parents=True)
    (out / "asv" / "index.html").write_text("")
    assert site.main(["--results", str(results), "--out", str(out)]) == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "{{" not in page
    content = json.loads(re.search(r'id="overview">(.*?)</script>', page)[1])
    assert content["asv"] is True
    assert content["machines"][0]["library"]["rows"] == [
        ["imports.timeraw_import", "scenax.common", "seconds"]
    ]
    name, history = read_script(out / "data" / "here" / "resnet18.js")
    assert name == "here/resnet18"
    assert history["score"] == {"values": [70, None, 80], "regressions": []}
    _, history = read_script(out / "data" / "here" / "vit_tiny_patch16_224.js")
    assert history["flops"]["regressions"] == [[1, 3_000_000_000, 3_300_000_000]]
    _, commit = read_script(out / "data" / "here" / "commits" / f"{COMMITS[2]}.js")
    assert commit["figures"]["flops"] == [None, 2_000_000_000, 3_300_000_000]
    assert commit["library"] == [0.06]
    assert commit["versions"] == {"jax": "0.2"}


def test_the_page_names_no_other_server():
    sources = pathlib.Path(site.__file__).parent
    for path in (*sources.glob("*.js"), *sources.glob("page.*")):
        addresses = re.findall(r"https?://[^\s'\"$]+", path.read_text(encoding="utf-8"))
        assert set(addresses) <= {"https://arxiv.org/abs/"}, path.name


def test_a_subject_cannot_end_the_script(repository, tmp_path):
    folder, _ = repository
    site.write(data.read(folder), tmp_path / "html")
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert "second <b>" not in page
    assert "second \\u003cb>" in page


def test_cards():
    content = cards.cards(["resnet18", "fully_connected", "old_net"])
    assert list(content["models"]) == ["resnet18", "fully_connected"]
    assert content["models"]["resnet18"]["tag"] == content["models"]["resnet18"]["tags"][0]
    assert content["models"]["resnet18"]["input_size"] == (3, 224, 224)
    assert content["models"]["fully_connected"]["tags"] == ()
    assert content["families"]["resnet"][0].startswith("ResNet and what grew from it")
    assert "arXiv 1512.03385" in content["families"]["resnet"][1]


def test_the_site_is_built_without_jax():
    script = """
import sys
from benchmarks.dashboard import cards, data, series, site
cards.families(), cards.cards(["resnet18"])
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_synthetic_results_have_the_planted_steps(tmp_path):
    names = list(cards.families())
    hashes = synthetic.make(tmp_path, architectures=len(names), commits=20, machines=1)
    (machine,) = data.read(tmp_path).machines
    assert [commit.hash for commit in machine.commits] == hashes
    flops = machine.figures["cost.track_flops"]["convnext_tiny"]
    assert [index for index, *_ in series.regressions(FLOPS, flops)] == [12]
    training = machine.figures["architectures.track_training_time"]["resnet50"]
    (found,) = series.regressions(TRAINING, training)
    assert found[0] == 14
    assert found[1] / found[2] == pytest.approx(1.4, rel=0.05)


ASV_PAGE = pathlib.Path(asv.results.__file__).parent / "www" / "index.html"


def test_asv_s_page_loads_nothing_from_elsewhere():
    text, names = vendor.rewrite(ASV_PAGE.read_text(encoding="utf-8"))
    assert len(names) == 10
    assert names == {name for package in vendor.PACKAGES for name in package.files}
    for tag in re.findall(r"<(?:script|link|img)[^>]*>", text):
        assert "//" not in tag
        assert "integrity" not in tag
    assert text.count('src="vendor/') == 9
    assert text.count('href="vendor/') == 1


def test_what_asv_s_page_loads_has_to_be_known():
    with pytest.raises(vendor.VendorError, match="unheard-of"):
        vendor.rewrite('<script src="https://cdn.example/unheard-of.js"></script>')


def archive_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_files_come_from_the_cache_and_are_checked(tmp_path, monkeypatch):
    archive = archive_of({"dist/jquery.min.js": b"jquery"})
    digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    package = vendor.Package("jquery", "1", digest, {"jquery.min.js": "dist/jquery.min.js"})
    monkeypatch.setattr(vendor, "PACKAGES", (package,))
    html, cache = tmp_path / "html", tmp_path / "cache"
    html.mkdir()
    cache.mkdir()
    page = '<script src="https://cdn.example/jquery.min.js" integrity="x"></script>'
    (html / "index.html").write_text(page)
    (cache / "jquery-1.tgz").write_bytes(archive + b"!")
    with pytest.raises(vendor.VendorError, match="not what is pinned"):
        vendor.vendor(html, cache)
    assert (html / "index.html").read_text() == page
    (cache / "jquery-1.tgz").write_bytes(archive)
    vendor.vendor(html, cache)
    assert (html / "vendor" / "jquery.min.js").read_bytes() == b"jquery"
    assert (html / "index.html").read_text() == '<script src="vendor/jquery.min.js"></script>'


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://localhost:9")
    (tmp_path / "index.html").write_text(ASV_PAGE.read_text(encoding="utf-8"))
    with pytest.raises(vendor.VendorError, match=r"npm pack jquery@3\.3\.1"):
        vendor.vendor(tmp_path, tmp_path / "cache")
    assert not (tmp_path / "vendor").exists()
