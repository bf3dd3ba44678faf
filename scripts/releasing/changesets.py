"""The Markdown files of `.changeset`: `Changeset`, and what is pending."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from scripts.releasing.shell import ReleaseError

__all__ = ["BUMPS", "Changeset", "add", "check_major", "pending", "pre_mode", "read"]

BUMPS = ("patch", "minor", "major")
CORE = "backplane-core"
_PAGE = re.compile(r"---\n(.*?)^---\n(.*)", re.DOTALL | re.MULTILINE)
_ENTRY = re.compile(r"""(["']?)([\w.-]+)\1\s*:\s*(["']?)(\w+)\3""")


@frozen(kw_only=True)
class Changeset:
    """One change, in the words of its users.

    Args:
        bumps: The distributions that it concerns, to how their version moves; none for a change that users don't see.
        text: What the changelogs say about it.
        path: The file that it was read from.
    """

    bumps: Mapping[str, str]
    text: str
    path: Path | None = None

    def check(self, known: Sequence[str]) -> None:
        """Raise `ReleaseError` unless every name and bump is known and there is something to say.

        Args:
            known: The names of the workspace's distributions.
        """
        where = "" if self.path is None else f".changeset/{self.path.name}: "
        for name, bump in self.bumps.items():
            if name not in known:
                raise ReleaseError(f"{where}no distribution is called {name!r}; there are {', '.join(known)}")
            if bump not in BUMPS:
                raise ReleaseError(f"{where}{name}: {bump!r} is not a bump; use one of {', '.join(BUMPS)}")
        if self.bumps and len(self.text.split()) < 3:  # noqa: PLR2004 -- fewer words are not a sentence
            raise ReleaseError(f"{where}say in a sentence what changes for the people who use it, not {self.text!r}")

    def page(self) -> str:
        """Return the file's content."""
        entries = "".join(f'"{name}": {bump}\n' for name, bump in self.bumps.items())
        return f"---\n{entries}---\n\n{self.text}\n"


def read(path: Path) -> Changeset:
    """Read one file.

    Raises:
        ReleaseError: It does not have the form that `.changeset/README.md` shows.
    """
    page = _PAGE.fullmatch(path.read_text())
    if page is None:
        raise ReleaseError(f".changeset/{path.name}: no front matter between lines of ---; see .changeset/README.md")
    bumps: dict[str, str] = {}
    for line in filter(None, map(str.strip, page[1].splitlines())):
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            raise ReleaseError(f'.changeset/{path.name}: {line!r} is not of the form "{CORE}": minor')
        bumps[entry[2]] = entry[4]
    return Changeset(bumps=bumps, text=page[2].strip(), path=path)


def pending(root: Path) -> Sequence[Changeset]:
    """Return what the next release will collect, sorted by file name."""
    paths = sorted((root / ".changeset").glob("*.md"))
    return [read(path) for path in paths if path.name != "README.md"]


def pre_mode(root: Path) -> str | None:
    """Return `pre` within a train of pre-releases, `exit` when the next release ends it, else None."""
    path = root / ".changeset" / "pre.json"
    return str(json.loads(path.read_text())["mode"]) if path.exists() else None


def add(root: Path, changeset: Changeset) -> Path:
    """Write it under a name made from its first words, and return the path."""
    words = re.findall(r"[a-z0-9]+", changeset.text.lower())[:6] or ["nothing", "to", "release"]
    stem = "-".join(words)[:60]
    names = (f"{stem}{suffix}.md" for suffix in ("", *(f"-{number}" for number in range(2, 1000))))
    path = next(path for path in (root / ".changeset" / name for name in names) if not path.exists())
    path.write_text(changeset.page())
    return path


def check_major(changesets: Sequence[Changeset], known: Sequence[str]) -> None:
    """Raise unless a major of core comes with changesets for the adapters.

    By itself, changesets only patches an adapter whose core has moved, and says "Updated dependencies"; but to the
    users of the adapter that is a breaking change.
    """
    if not any(it.bumps.get(CORE) == "major" for it in changesets):
        return
    silent = [name for name in known if name != CORE and not any(it.bumps.get(name) == "major" for it in changesets)]
    if silent:
        command = " ".join(["uv run scripts/changeset.py", *(f"{name}=major" for name in silent)])
        raise ReleaseError(
            f"backplane-core moves to a new major version, so {' and '.join(silent)} break with it and need "
            f'a changeset of their own:\n  {command} -m "Needs the new backplane-core: see its changelog."'
        )
