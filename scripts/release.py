"""Makes a release: `uv run scripts/release.py COMMAND`. What each step is for: RELEASING.md.

check    manifests and lock files agree, changesets are well-formed, and every change has one
carry    versions and bounds from package.json to pyproject.toml and uv.lock (`version` does it itself)
pending  whether there is a changeset to release, as `pending=true`
version  pending changesets become versions, bounds, changelogs and lock files
pre      enter or leave a series of pre-releases: `pre enter rc`, `pre exit`
build    wheels, sdists and SBOMs, checked, the same bytes each time
audit    known vulnerabilities in what users install
publish  upload what the index does not have yet, core first
tag      a git tag for each version that has none
notes    what the changelog says about a tag
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.releasing.announced import branch_base, unannounced  # noqa: E402 -- found by the line above
from scripts.releasing.auditing import audit  # noqa: E402
from scripts.releasing.building import build  # noqa: E402
from scripts.releasing.changesets import check_major, pending, pre_mode  # noqa: E402
from scripts.releasing.node import changeset, refresh_npm_lock  # noqa: E402
from scripts.releasing.publishing import PYPI_SIMPLE, PYPI_UPLOAD, publish  # noqa: E402
from scripts.releasing.shell import ReleaseError, run  # noqa: E402
from scripts.releasing.workspace import carry, drift, read_workspace  # noqa: E402


def check_changesets() -> None:
    """Raise unless the pending changesets can be released."""
    names = [it.name for it in read_workspace(ROOT)]
    changesets = pending(ROOT)
    for it in changesets:
        it.check(names)
    check_major(changesets, names)


def is_pending() -> bool:
    """Return whether `version` has something to do."""
    return bool(pending(ROOT)) or pre_mode(ROOT) == "exit"


def check_drift() -> None:
    """Raise unless manifests and lock files agree."""
    differences = list(drift(ROOT))
    if differences:
        raise ReleaseError(
            "\n".join([*differences, "Versions are moved by changesets alone: run `uv run scripts/release.py carry`."])
        )


def command_check(options: argparse.Namespace) -> None:
    """Check everything that needs no Node.js."""
    check_drift()
    check_changesets()
    silent = [it.name for it in unannounced(ROOT, options.since or branch_base(ROOT))]
    if silent:
        raise ReleaseError(
            f"{' and '.join(silent)} changed without a changeset. Say what changes for users:\n"
            f'  uv run scripts/changeset.py {" ".join(f"{name}=patch" for name in silent)} -m "One sentence."\n'
            "(patch, minor or major), or, where users can't see it: uv run scripts/changeset.py --none"
        )
    print("manifests agree, every change has a changeset")


def command_carry(_: argparse.Namespace) -> None:
    """Fix a drift, or take over an edit of package.json by hand."""
    refresh_npm_lock(ROOT)
    carry(ROOT)


def command_version(_: argparse.Namespace) -> None:
    """Make the release itself, up to the commit."""
    if not is_pending():
        print("no changeset is pending: nothing to release")
        return
    check_drift()
    check_changesets()
    before = {it.name: it.version for it in read_workspace(ROOT)}
    try:
        changeset(ROOT, "version")
        refresh_npm_lock(ROOT)
        carry(ROOT)
        check_drift()
    except ReleaseError as error:
        raise ReleaseError(f"{error}\nStopped half-way: `git restore .` takes it back, then run it again") from error
    for it in read_workspace(ROOT):
        arrow = "stays" if it.version == before[it.name] else f"{before[it.name]} ->"
        print(f"{it.name}: {arrow} {it.version}")
    print("Look at the changelogs, commit all of it, then: uv run scripts/release.py build")


def command_pending(_: argparse.Namespace) -> None:
    """Print whether a release is pending, as CI reads it."""
    print(f"pending={str(is_pending()).lower()}")


def command_pre(options: argparse.Namespace) -> None:
    """Enter or leave a series of pre-releases."""
    wanted = {"enter": 2, "exit": 1}[options.words[0]] if options.words[0] in {"enter", "exit"} else 0
    if len(options.words) != wanted:
        raise ReleaseError("either `pre enter TAG`, with a, b or rc as the tag, or `pre exit`")
    # Python knows these three; with another one the version could not be carried over.
    if wanted == 2 and options.words[1] not in {"a", "b", "rc"}:  # noqa: PLR2004 -- `enter` and its tag
        raise ReleaseError(f"{options.words[1]!r} is not a pre-release tag in Python: use a, b or rc")
    changeset(ROOT, "pre", *options.words)
    print("Next: uv run scripts/release.py version")


def command_build(options: argparse.Namespace) -> None:
    """Build, and print what was built."""
    for path in build(ROOT, options.dist.resolve()):
        print(path.name)


def command_audit(options: argparse.Namespace) -> None:
    """Fail on a finding, or on no answer if one is required."""
    found = audit(ROOT, options.service)
    if found.findings:
        raise ReleaseError("\n".join([*found.findings, "Run `uv lock --upgrade-package NAME` for each."]))
    missing = [*found.unknown, *([] if found.packages else [f"the service ({options.service}) reported no package"])]
    if missing and options.required:
        raise ReleaseError("\n".join(["not audited:", *missing]))
    print(f"no known vulnerability in {found.packages} locked packages" if found.packages else "NOT audited:")
    print("\n".join(missing), end="\n" if missing else "")


def command_publish(options: argparse.Namespace) -> None:
    """Publish, and print one line per distribution."""
    publish(
        ROOT,
        options.dist.resolve(),
        upload_url=options.upload_url,
        simple_url=options.simple_url,
        dry_run=options.dry_run,
        trusted=options.trusted,
        say=print,
    )


def command_tag(_: argparse.Namespace) -> None:
    """Print only the new tags, one per line, for a shell loop to read."""
    there = set(run("git", "tag", cwd=ROOT).split())
    for it in read_workspace(ROOT):
        if it.tag not in there:
            run("git", "tag", it.tag, cwd=ROOT)
            print(it.tag)


def command_notes(options: argparse.Namespace) -> None:
    """Print one section of one changelog."""
    name, _, version = options.tag.rpartition("@")
    for it in read_workspace(ROOT):
        if it.name == name:
            changelog = (ROOT / it.folder / "CHANGELOG.md").read_text()
            section = re.search(rf"^## {re.escape(version)}\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE)
            if section:
                print(section[1].strip())
                return
    raise ReleaseError(f"no changelog mentions {options.tag}; a tag is like backplane-core@1.2.3")


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check")
    check.add_argument(
        "--since", metavar="REF", help="what this branch left (default: main; on main, the last release)"
    )
    check.set_defaults(command=command_check)
    commands.add_parser("carry").set_defaults(command=command_carry)
    commands.add_parser("pending").set_defaults(command=command_pending)
    commands.add_parser("version").set_defaults(command=command_version)
    pre = commands.add_parser("pre")
    pre.add_argument("words", nargs="+", metavar="enter TAG | exit")
    pre.set_defaults(command=command_pre)
    builder = commands.add_parser("build")
    builder.set_defaults(command=command_build)
    auditor = commands.add_parser("audit")
    auditor.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="default: pypi")
    auditor.add_argument("--required", action="store_true", help="fail where the service can't be reached")
    auditor.set_defaults(command=command_audit)
    publisher = commands.add_parser("publish")
    publisher.add_argument("--dry-run", action="store_true", help="say what would be uploaded")
    publisher.add_argument("--trusted", action="store_true", help="fail where CI does not vouch for us (OIDC)")
    publisher.add_argument("--upload-url", default=PYPI_UPLOAD, help=f"default: {PYPI_UPLOAD}")
    publisher.add_argument("--simple-url", default=PYPI_SIMPLE, help=f"the same index to read (default: {PYPI_SIMPLE})")
    publisher.set_defaults(command=command_publish)
    for command in builder, publisher:
        command.add_argument("--dist", type=Path, default=ROOT / "dist", help="default: dist")
    commands.add_parser("tag").set_defaults(command=command_tag)
    notes = commands.add_parser("notes")
    notes.add_argument("tag", help="like backplane-core@1.2.3")
    notes.set_defaults(command=command_notes)
    return parser


def main() -> None:
    """Run one command; if it fails, print one message and no traceback."""
    options = arguments().parse_args()
    try:
        options.command(options)
    except ReleaseError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
