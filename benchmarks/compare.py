"""Says whether a commit is worse than another: what ``nox -s bench_compare`` runs.

asv measures both, and its comparison is printed. Then each figure is judged by what it can say:
counts by any growth; the error of a short training, where it grew, over five seeds on both sides;
speed, where the compiled program is not the same, by runs of both commits in turns in one go, since
a shared machine is twice as fast at some hours as at others.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks import catalog, measuring, run
from benchmarks.dashboard import data
from benchmarks.figures import FIGURES, TIME_NOISE, Figure

FOLDER = measuring.KEPT.parent / "compare"
SEEDS = 5
POINTS = 1.0
"""Of error: less growth is no news."""
DEVIATIONS = 3.0
"""Of the difference of two means of five seeds."""
RATIO = 1 + TIME_NOISE / 100
"""Of times."""
PAIRS = 12
ROWS = 100
"""Of a report: a comment on GitHub holds 65,536 characters. asv's comparison has every change."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What there is to say of a figure of an architecture."""

    model: str
    title: str
    base: float
    head: float
    unit: str
    worse: bool
    reason: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares two commits; returns 1 if the second is worse, 2 if something was not measured."""
    parser = argparse.ArgumentParser(prog="nox -s bench_compare --", description=__doc__)
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("head", help="the commit that may be worse")
    parser.add_argument("--quick", action="store_true", help="counts alone")
    parser.add_argument("--every", action="store_true", help="time programs that are equal, too")
    parser.add_argument("--models", default="*", help="wildcards for what is trained and timed")
    parser.add_argument("--device", choices=measuring.CONDITIONS, default="cpu")
    parser.add_argument("--report", type=pathlib.Path, help="where to write it as Markdown")
    options = parser.parse_args(arguments)
    os.environ |= run.environment(options.device, "compare", options.models)
    base, head = (commit_of(name) for name in (options.base, options.head))
    names = catalog.timed_names()
    status = _run_asv(base, head, options.device, quick=options.quick)
    figures = data.read(FOLDER / "results").machines
    (machine,) = [each for each in figures if each.name == options.device]
    findings = grown_counts(machine, base, head)
    if not options.quick:
        with _Pair(base, head) as pair:
            findings += worse_errors(pair, machine, names)
            findings += slower(pair, names, every=options.every)
    text = report(base, head, findings)
    sys.stdout.write(text)
    if options.report:
        options.report.write_text(text, encoding="utf-8")
    if status:
        sys.stderr.write("Some benchmarks failed; see above.\n")
    return 1 if any(finding.worse for finding in findings) else 2 if status else 0


def commit_of(name: str) -> str:
    """Returns the hash of a commit.

    Raises:
      SystemExit: if there is no such commit.
    """
    command = ["git", "-C", str(measuring.ROOT), "rev-parse", "--verify", f"{name}^{{commit}}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"{name!r} is no commit here. In a shallow clone, fetch its history.")
    return found.stdout.strip()


def _run_asv(base: str, head: str, machine: str, *, quick: bool) -> int:
    """Lets asv measure both commits and print how they compare; returns its exit status."""
    forget_other_benchmarks()
    bench = "cost" if quick else "cost|architectures.track_error"
    options = ["--quick", "--show-stderr", "--skip-existing-successful", f"--bench={bench}"]
    with run.asv("compare.json", machine) as asv:
        statuses = [asv("run", *options, f"{commit}^!") for commit in dict.fromkeys([base, head])]
        asv("compare", "--only-changed", "--factor=1.001", base, head)
    return max(statuses)


def forget_other_benchmarks() -> None:
    """Removes results of commits that these benchmarks would not give: of others of their names."""
    digest = hashlib.sha256(json.dumps(catalog.small_copies()).encode())
    here = pathlib.Path(__file__).parent
    for source in sorted([*here.glob("*.py"), *here.glob("suite/*.py")]):
        digest.update(source.read_bytes())
    made_by = FOLDER / "made_by"
    if not made_by.exists() or made_by.read_text() != digest.hexdigest():
        shutil.rmtree(FOLDER / "results", ignore_errors=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        made_by.write_text(digest.hexdigest())


def grown_counts(machine: data.Machine, base: str, head: str) -> list[Finding]:
    """Returns which counts changed: to grow is to be worse."""
    before, after = (_index(machine, commit) for commit in (base, head))
    findings = []
    for figure in FIGURES:
        rows = machine.figures.get(figure.benchmark, {}) if figure.exact else {}
        for model, values in rows.items():
            old, new = values[before], values[after]
            if old is None or new is None or old == new:
                continue
            worse = new > old
            reason = "counted: any growth" if worse else "counted"
            findings.append(_finding(model, figure, old, new, worse=worse, reason=reason))
    return findings


def _index(machine: data.Machine, commit: str) -> int:
    return [each.hash for each in machine.commits].index(commit)


def _finding(
    model: str, figure: Figure, base: float, head: float, *, worse: bool, reason: str
) -> Finding:
    return Finding(model, figure.title, base, head, figure.unit, worse, reason)


def worse_errors(pair: "_Pair", machine: data.Machine, names: Sequence[str]) -> list[Finding]:
    """Returns which errors grew: by more than they differ from seed to seed."""
    figure = next(each for each in FIGURES if each.benchmark == "architectures.track_error")
    before, after = (_index(machine, commit) for commit in pair.commits)
    findings = []
    for model, values in machine.figures.get(figure.benchmark, {}).items():
        old, new = values[before], values[after]
        if model not in names or old is None or new is None or new - old <= POINTS:
            continue
        measuring.say(f"{model}: error {old:.1f} % became {new:.1f} %; more seeds are trained")
        base, head = pair.errors(model)
        worse, limit = is_worse(base, head)
        reason = f"{SEEDS} seeds; beyond noise from {limit:+.1f} points"
        means = statistics.mean(base), statistics.mean(head)
        findings.append(_finding(model, figure, *means, worse=worse, reason=reason))
    return findings


def is_worse(base: Sequence[float], head: Sequence[float]) -> tuple[bool, float]:
    """Returns whether errors of several seeds grew beyond their spread, and from where on it is so.

    Args:
      base: in percent.
      head: likewise, of as many seeds.
    """
    variance = statistics.variance(base) / len(base) + statistics.variance(head) / len(head)
    limit = max(POINTS, DEVIATIONS * variance**0.5)
    return statistics.mean(head) - statistics.mean(base) > limit, limit


def slower(pair: "_Pair", names: Sequence[str], *, every: bool) -> list[Finding]:
    """Returns which of the programs that are not the same take longer or shorter."""
    findings = []
    for model in names:
        for part in ("inference", "training"):
            if not pair.compile(model, part, every=every):
                continue
            times, worse, ratio = judge(lambda count, m=model, p=part: pair.times(m, p, count))
            batch = measuring.CONDITIONS[measuring.asked_device()].batch
            base, head = (1000 * statistics.median(each) / batch for each in times)
            reason = f"{len(times[0])} pairs of runs; their median ratio is {ratio:.2f}"
            title, unit = f"{part} time", "ms/image"
            if worse or abs(ratio - 1) > RATIO - 1 or every:
                findings.append(Finding(model, title, base, head, unit, worse, reason))
        pair.forget(model)
    return findings


def judge(
    measure: Callable[[int], tuple[Sequence[float], Sequence[float]]],
) -> tuple[tuple[Sequence[float], Sequence[float]], bool, float]:
    """Returns times of two programs, whether the second is slower, and the ratio of its times.

    Where a first look says so, three times as many pairs decide, and the first do not count.

    Args:
      measure: returns the seconds of so many runs of both, in turns.
    """
    times = measure(PAIRS)
    worse, ratio = is_slower(*times)
    if worse:
        times = measure(3 * PAIRS)
        worse, ratio = is_slower(*times)
    return times, worse, ratio


def is_slower(base: Sequence[float], head: Sequence[float]) -> tuple[bool, float]:
    """Returns whether a program became slower, and the median ratio of runs that were side by side.

    It did if the median is above 1.1 and three of four ratios are above 1.05.

    Args:
      base: seconds.
      head: seconds; each was measured right before or after the one of ``base``.
    """
    ratios = sorted(new / old for old, new in zip(base, head, strict=True))
    median = statistics.median(ratios)
    clear = ratios[len(ratios) // 4] > 1 + (RATIO - 1) / 2
    return median > RATIO and clear, median


class _Pair:
    """Two workers on two commits."""

    def __init__(self, base: str, head: str) -> None:
        self.commits = base, head
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            self._workers = [measuring.Worker(python) for python in pool.map(install, (base, head))]
        known = [set(worker.ask("names")) for worker in self._workers]
        self._names = known[0] & known[1]
        self._conditions = dataclasses.astuple(measuring.CONDITIONS[measuring.asked_device()])

    def __enter__(self) -> "_Pair":
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.__exit__(*error)

    def _both(self, request: str, *arguments: object) -> list[object]:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda worker: worker.ask(request, *arguments), self._workers))

    def errors(self, model: str) -> list[list[float]]:
        """Returns errors over the seeds, of both commits."""

        def of(worker: measuring.Worker) -> list[float]:
            return [measuring.learning(worker, model, seed=seed) for seed in range(SEEDS)]

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return list(pool.map(of, self._workers))

    def compile(self, model: str, part: str, *, every: bool) -> bool:
        """Returns whether there is something to time: two programs that differ, now compiled."""
        if model not in self._names:
            return False
        keys = [
            measuring.program_key(worker, model, "speed_key", *self._conditions, part)
            for worker in self._workers
        ]
        if keys[0] == keys[1] and not every:
            return False
        self._both("compiling", model, *self._conditions, part)
        return True

    def times(self, model: str, part: str, count: int) -> tuple[list[float], list[float]]:
        """Returns the seconds of so many runs of each commit's program, in turns."""
        times: tuple[list[float], list[float]] = ([], [])
        for index in range(count):
            # Who goes first has the colder caches: each does, every other time.
            for side in (0, 1) if index % 2 else (1, 0):
                worker = self._workers[side]
                times[side].append(worker.ask("turn", model, *self._conditions, part))
        measuring.say(f"{model}: {part} timed on both commits, {count} times in turns")
        return times

    def forget(self, model: str) -> None:
        """Gives memory back."""
        self._both("forget", model)


def install(commit: str) -> str:
    """Installs a commit's packages with its own lock; returns the Python that has them."""
    folder = FOLDER / "commits" / commit
    python = folder / ".venv" / "bin" / "python"
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = ["git", "-C", str(measuring.ROOT), "archive", "--format=tar", commit]
        files = subprocess.run(archive, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(folder)], input=files, check=True)
        sync = ["uv", "sync", "--frozen", "--quiet", "--all-packages", "--no-default-groups"]
        environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
        environment["UV_PROJECT_ENVIRONMENT"] = str(folder / ".venv")
        subprocess.run(sync, check=True, cwd=folder, env=environment)
        if plugin := os.environ["SCENAX_BENCH_PLUGIN"]:
            add = ["uv", "pip", "install", "--quiet", f"--python={python}", plugin]
            subprocess.run(add, check=True)
        (folder / "complete").write_text(hashlib.sha256(files).hexdigest())
    return str(python)


def report(base: str, head: str, findings: Sequence[Finding]) -> str:
    """Returns the findings as Markdown: what is worse first."""
    title = f"## {head[:8]} against {base[:8]}\n\n"
    if not findings:
        return title + "Nothing that is measured has changed.\n"
    worse = [finding for finding in findings if finding.worse]
    lines = [
        "| | architecture | figure | base | head | change | by |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in sorted(findings, key=lambda finding: not finding.worse)[:ROWS]:
        change = f"{each.head - each.base:+.1f} points" if each.unit == "%" else _percent(each)
        lines.append(
            f"| {'worse' if each.worse else ''} | `{each.model}` | {each.title} | {each.base:.6g} "
            f"{each.unit} | {each.head:.6g} {each.unit} | {change} | {each.reason} |"
        )
    said = f"**{len(worse)} figures are worse.**" if worse else "Nothing is worse."
    rest = f"\nAnd {len(findings) - ROWS} more.\n" if len(findings) > ROWS else ""
    return f"{title}{said}\n\n" + "\n".join(lines) + f"\n{rest}"


def _percent(finding: Finding) -> str:
    return f"{100 * (finding.head / finding.base - 1):+.2f} %" if finding.base else "from nothing"


if __name__ == "__main__":
    sys.exit(main())
