"""Every chore by name: ``nox -l`` lists them. Environments come from the committed lock."""

import os
import pathlib
import shutil
import tempfile

import nox

# Images of containers often set it; sessions start hundreds of processes, each of which would
# compile for seconds what it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

nox.needs_version = ">=2025.11.12"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["tests", "lint", "types", "imports", "build"]
nox.options.reuse_existing_virtualenvs = True

PACKAGES = ["common", "data", "models", "train"]
APPS = sorted(p.parent.name for p in pathlib.Path("apps").glob("*/main.py"))
ROOT = pathlib.Path(__file__).parent


def sync(session: nox.Session, *arguments: str) -> None:
    """Makes the session's environment hold what the lock has for ``arguments``, and no more."""
    session.run_install(
        "uv",
        "sync",
        "--frozen",
        "--quiet",
        *arguments,
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
    )


@nox.session
def demo(session: nox.Session) -> None:
    """Trains a vision transformer on digits in two minutes; with -- finetune, fine-tunes one."""
    sync(session, "--group=apps")
    if session.posargs[:1] == ["finetune"]:
        session.run("python", "-m", "apps.classification.demo_finetune", *session.posargs[1:])
        return
    session.run(
        "python",
        "-m",
        "apps.classification.main",
        "--config=apps/classification/configs/digits_vit.py",
        *(session.posargs or ["--workdir=runs/digits_vit"]),
    )


@nox.session
@nox.parametrize("part", [*PACKAGES, "apps", "project"], ids=[*PACKAGES, "apps", "project"])
def tests(session: nox.Session, part: str) -> None:
    """Tests each package with only what it declares, then the apps, then what spans them."""
    if part in PACKAGES:
        sync(session, f"--package=scenax-{part}", "--all-extras", "--group=test")
        paths = [f"packages/{part}/tests", f"packages/{part}/src"]
    else:
        groups = (
            ["apps", "test"] if part == "apps" else ["apps", "test", "imports", "bench", "browser"]
        )
        sync(session, *[f"--group={group}" for group in groups])
        paths = ["apps"] if part == "apps" else ["tests", "benchmarks/tests"]
    # Files share what they wrote, and families of the zoo what they compiled.
    dist = "loadgroup" if part == "models" else "loadfile"
    session.run(
        "pytest",
        "-c",
        "pyproject.toml",
        "--durations=5",
        "--numprocesses=auto",
        f"--dist={dist}",
        *paths,
        *session.posargs,
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Checks format and style."""
    sync(session, "--only-group=lint")
    session.run("uv", "lock", "--check", "--quiet", external=True)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Type-checks every portion of the namespace and the apps."""
    sync(session, "--all-packages", "--all-extras", "--group=apps", "--group=types")
    session.run("python", "tests/check_types.py")


@nox.session
def configs(session: nox.Session) -> None:
    """Takes a step of every configuration, made small, without a network; arguments are names."""
    sync(session, "--group=apps", "--group=test")
    session.run("python", "tests/check_configs.py", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """Proves which way imports run."""
    sync(session, "--group=apps", "--group=imports")
    session.run("lint-imports", env={"PYTHONPATH": str(ROOT)})


def build_into(session: nox.Session, folder: str) -> None:
    """Builds wheels and sdists of all packages into ``folder``."""
    session.run_install(
        "uv", "build", "--quiet", "--all-packages", f"--out-dir={folder}", silent=True
    )


@nox.session
def build(session: nox.Session) -> None:
    """Builds wheels and sdists, and imports each package from its wheel, alone."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    build_into(session, str(dist))
    for package in PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            session.run_install("uv", "venv", "--quiet", f"{folder}/venv")
            python = f"{folder}/venv/bin/python"
            session.run_install(
                "uv",
                "pip",
                "install",
                "--quiet",
                f"--python={python}",
                f"--constraints={constraints(session, folder)}",
                f"--find-links={dist}",
                f"scenax-{package}",
            )
            check = ROOT / "tests" / "check_wheel.py"
            session.run(python, "-I", str(check), package, external=True, env={"PYTHONPATH": ""})


def constraints(session: nox.Session, folder: str) -> str:
    """Writes what the lock pins, but for our own packages, to a file; returns its path."""
    path = f"{folder}/constraints.txt"
    session.run_install(
        "uv",
        "export",
        "--frozen",
        "--quiet",
        "--all-packages",
        "--all-extras",
        "--no-hashes",
        "--no-emit-workspace",
        f"--output-file={path}",
        silent=True,
    )
    return path


@nox.session(venv_backend="venv")
def parity(session: nox.Session) -> None:
    """Compares architectures with timm, side by side; --all for every name, or wildcards."""
    # With pip: where torch's CPU build lies beside the index, uv would not look for it.
    session.install("torch==2.13.0", "torchvision==0.28.0", "timm==1.0.31")
    session.install("./packages/common", "./packages/models")
    session.run("python", "packages/models/tests/goldens/parity.py", *session.posargs)


@nox.session(venv_backend="venv")
def formats(session: nox.Session) -> None:
    """Compares every format of weights with its reference loader; arguments are names."""
    session.install("torch==2.13.0", "torchvision==0.28.0", "timm==1.0.31")
    session.install("./packages/common", "./packages/models")
    session.run("python", "packages/models/tests/goldens/formats.py", *session.posargs)


@nox.session(venv_backend="venv")
def speed(session: nox.Session) -> None:
    """Times inference and training beside timm on this CPU; arguments are names."""
    session.install("torch==2.13.0", "torchvision==0.28.0", "timm==1.0.31")
    session.install("./packages/common", "./packages/models")
    session.run("python", "benchmarks/against_timm.py", *session.posargs)


@nox.session(venv_backend="venv")
def input(session: nox.Session) -> None:
    """Times reading and augmenting images beside torch's DataLoader; --images for your own."""
    session.install("torch==2.13.0", "torchvision==0.28.0")
    session.install("./packages/common", "./packages/data")
    session.run("python", "benchmarks/against_torch.py", *session.posargs)


@nox.session
def matchers(session: nox.Session) -> None:
    """Times the exact matchers beside optax's and scipy's."""
    sync(session, "--package=scenax-models")
    session.run("python", "benchmarks/against_scipy.py", *session.posargs)


@nox.session
def checkpoints(session: nox.Session) -> None:
    """Times training with a checkpoint every hundred steps beside training without."""
    sync(session, "--package=scenax-models", "--package=scenax-train")
    session.run("python", "benchmarks/checkpoint_overhead.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measures every architecture: of the working tree, or of commits that are named after --."""
    sync(session, "--all-packages", "--group=bench")
    for device, plugin in (("gpu", "jax[cuda12]"), ("tpu", "jax[tpu]")):
        if f"--device={device}" in session.posargs:
            session.install(plugin)
    session.run("python", "-m", "benchmarks.run", *session.posargs)


@nox.session
def bench_compare(session: nox.Session) -> None:
    """Says whether a commit is worse than another: -- BASE HEAD; fails if it is."""
    sync(session, "--all-packages", "--group=bench")
    session.run("python", "-m", "benchmarks.compare", *session.posargs)


@nox.session
def dashboard(session: nox.Session) -> None:
    """Makes the site of all results, benchmarks/html/index.html, which needs no network."""
    sync(session, "--package=scenax-models", "--group=bench")
    html = ROOT / "benchmarks" / "html"
    with tempfile.TemporaryDirectory() as home:
        config = "--config=benchmarks/asv.conf.json"
        session.run("asv", "publish", config, f"--html-dir={html / 'asv'}", env={"HOME": home})
    vendored = ROOT / "benchmarks" / "env" / "vendored"
    session.run(
        "python", "-m", "benchmarks.dashboard.vendor", str(html / "asv"), f"--cache={vendored}"
    )
    session.run("python", "-m", "benchmarks.dashboard.site", *session.posargs)


@nox.session
@nox.parametrize("app", APPS, ids=APPS)
def fork(session: nox.Session, app: str) -> None:
    """Copies an app under another name and trains its smoke config on the built wheels."""
    with tempfile.TemporaryDirectory() as folder:
        build_into(session, f"{folder}/dist")
        session.install(
            f"--constraints={constraints(session, folder)}",
            f"--find-links={folder}/dist",
            "scenax-common[visualize]",
            "scenax-data",
            "scenax-models",
            "scenax-train",
        )
        shutil.copytree(ROOT / "apps" / app, f"{folder}/projects/mine")
        with session.chdir(folder):
            session.run(
                "python",
                "-m",
                "projects.mine.main",
                "--config=projects/mine/configs/smoke.py",
                "--workdir=run",
                env={"PYTHONPATH": folder},
            )


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def minimums(session: nox.Session, package: str) -> None:
    """Runs a package's tests on the lowest versions that it declares."""
    with tempfile.TemporaryDirectory() as folder:
        build_into(session, f"{folder}/dist")
        pyproject = nox.project.load_toml(ROOT / "packages" / package / "pyproject.toml")
        extras = ",".join(pyproject["project"].get("optional-dependencies", {}))
        session.install(
            "--resolution=lowest-direct",
            f"--find-links={folder}/dist",
            f"scenax-{package}[{extras}]" if extras else f"scenax-{package}",
            *pyproject["dependency-groups"]["test"],
        )
        # Old versions warn of one another's age.
        old = ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"]
        session.run(
            "pytest", "-c", "pyproject.toml", *old, f"packages/{package}/tests", *session.posargs
        )
