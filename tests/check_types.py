"""Runs pyright and fails if it looked at nothing, which it reports as success."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def main() -> int:
    """Prints what pyright found and returns the exit status."""
    expected = {
        str(path)
        for pattern in ("packages/*/src/**/*.py", "apps/**/*.py")
        for path in ROOT.glob(pattern)
        if "tests" not in path.relative_to(ROOT).parts
    }
    ran = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    result = json.loads(ran.stdout)
    for problem in result["generalDiagnostics"]:
        line = problem["range"]["start"]["line"] + 1
        sys.stdout.write(f"{problem['file']}:{line}: {problem['message']}\n")
    analyzed = result["summary"]["filesAnalyzed"]
    sys.stdout.write(f"pyright looked at {analyzed} files of {len(expected)}.\n")
    return ran.returncode or int(analyzed < len(expected))


if __name__ == "__main__":
    sys.exit(main())
