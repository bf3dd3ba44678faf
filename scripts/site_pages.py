"""A hook for MkDocs that shows files of the repository on the site and checks every link.

It is named in mkdocs.yml. Anything wrong is a warning, on which `mkdocs build --strict` fails.

- A line `--8<-- "SECURITY.md"` is replaced by that file of the repository.
- A link to a file of the repository leads to the page that shows it, or else to that file on GitHub.
- A link to another site is checked for its form, and listed: nothing is fetched.
- No page may load a script, style, font or picture from another site.
- The reference shows every public name, on one page.
- Every page names the versions that it describes, in its footer.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
DISTRIBUTIONS: Final = (
    "packages/backplane-core",
    "adapters/backplane-redis",
    "adapters/backplane-nats",
    "packages/backplane-asgi",
    "packages/backplane-channels",
    "packages/backplane-litestar",
    "packages/backplane-server",
    "packages/backplane-socketio",
)
"""Folders of what is published."""

SHOWN: Final = {
    "SECURITY.md": "explanation/security.md",
    "adapters/backplane-redis/README.md": "reference/redis.md",
    "adapters/backplane-nats/README.md": "reference/nats.md",
    "packages/backplane-asgi/README.md": "reference/asgi.md",
    "packages/backplane-channels/README.md": "reference/channels.md",
    "packages/backplane-litestar/README.md": "reference/litestar.md",
    "packages/backplane-server/README.md": "reference/server.md",
    "packages/backplane-socketio/README.md": "reference/socketio.md",
    **{f"{folder}/CHANGELOG.md": "changelog.md" for folder in DISTRIBUTIONS},
}
"""Files of the repository, and the pages that show them."""

PUBLIC: Final = frozenset(
    {
        "backplane_core",
        "backplane_core.otel",
        "backplane_core.sockets",
        "backplane_core.testing",
        "backplane_core.testing.pytest_plugin",
        "backplane_redis",
        "backplane_nats",
        "backplane_asgi",
        "backplane_asgi.sockets",
        "backplane_channels",
        "backplane_litestar",
        "backplane_server",
        "backplane_server.pusher",
        "backplane_socketio",
    }
)
"""Modules of which the reference shows every name."""

logger: Final = logging.getLogger("mkdocs.hooks.site_pages")

_shown: Final = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
_link: Final = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_code: Final = re.compile(r"^( *)(`{3,}).*?^\1\2$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_href: Final = re.compile(r'href="([a-z][a-z0-9+.-]*:[^"]*)"', re.IGNORECASE)
_loaded: Final = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//[^"]*"|<link\b(?![^>]*rel="canonical")[^>]*href="(?:https?:)?//[^"]*"'
)
_reference: Final = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)

_elsewhere: Final[set[str]] = set()
_pages_of: Final[dict[str, set[str]]] = {}
_shown_on: Final[dict[str, set[str]]] = {}
"""The pages on which the reference has a name or a check, by its full path."""


class File(Protocol):
    """The part of MkDocs' class of that name that is used here, like the next ones."""

    src_uri: str


class Page(Protocol):
    """One page of the site."""

    file: File
    markdown: str | None


class Files(Protocol):
    """All files under docs."""

    def get_file_from_path(self, path: str) -> File | None:
        """Return the file at this path under docs."""
        ...


class Config(Protocol):
    """What mkdocs.yml says."""

    extra: Mapping[str, Any]
    copyright: str | None


def on_config(config: Config) -> None:
    """Have the footer of every page name the versions that the site describes."""
    projects = [tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in DISTRIBUTIONS]
    config.copyright = "Describes " + ", ".join(f"{it['name']} {it['version']}" for it in projects)


def on_page_markdown(markdown: str, *, page: Page, config: Config, files: Files) -> str:
    """Insert the files that the page shows, and lead links to where their targets are."""
    source = DOCS / page.file.src_uri
    repository = str(config.extra["repository"])
    text = _shown.sub(lambda match: _moved((ROOT / match[1]), source, repository, files), markdown)
    return _moved_text(text, source, source, repository, files)


def _moved(shown: Path, page: Path, repository: str, files: Files) -> str:
    return _moved_text(shown.read_text(), shown, page, repository, files)


def _moved_text(text: str, written_in: Path, page: Path, repository: str, files: Files) -> str:
    """Return the text of a file with its links as they must be on a page."""
    kept = [match.span() for match in _code.finditer(text)]

    def move(match: re.Match[str]) -> str:
        begin, to, end = match[1], match[2], match[3]
        if urlsplit(to).scheme or any(start <= match.start() < stop for start, stop in kept):
            return match[0]
        target = Path(os.path.normpath(written_in.parent / to))
        if not target.is_relative_to(ROOT):
            return match[0]  # a link between pages that was led there before
        inside = SHOWN.get(str(target.relative_to(ROOT)))
        if inside is None and target.is_relative_to(DOCS):
            inside = str(target.relative_to(DOCS))
        if inside is not None and files.get_file_from_path(inside) is not None:
            return f"{begin}{os.path.relpath(DOCS / inside, page.parent)}{end}"
        if not target.exists():
            logger.warning("%s links to %s, which does not exist", written_in.relative_to(ROOT), to)
        kind = "tree" if target.is_dir() else "blob"
        return f"{begin}{repository}/{kind}/main/{target.relative_to(ROOT)}{end}"

    return _link.sub(move, text)


def on_page_content(html: str, *, page: Page, config: Config, files: Files) -> str:  # noqa: ARG001 -- MkDocs' names
    """Check the form of links to other sites, and note what the reference shows."""
    name = page.file.src_uri
    urls: list[str] = _href.findall(html)
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme != "https" or "." not in parts.netloc or not re.fullmatch(r"[!-~]+", url):
            logger.warning("%s: %r is not the form of a link to another site", name, url)
        _elsewhere.add(url)
    shown: list[str] = re.findall(r'id="([\w.]+)"', html)
    for reference in _reference.findall(page.markdown or ""):
        if module := max([one for one in PUBLIC if f"{reference}.".startswith(f"{one}.")], key=len, default=None):
            _pages_of.setdefault(module, set()).add(name)
    for it in shown:
        _shown_on.setdefault(it, set()).add(name)
    return html


def on_post_page(output: str, *, page: Page, config: Config) -> str:  # noqa: ARG001 -- MkDocs' names
    """Check that the page loads nothing from another site."""
    for loaded in _loaded.findall(output):
        logger.warning("%s loads from another site: %s", page.file.src_uri, loaded)
    return output


def on_post_build(*, config: Config) -> None:  # noqa: ARG001 -- MkDocs' names
    """Check that the reference shows each public name on one page, and list the links to other sites."""
    for module in sorted(PUBLIC):
        pages = ", ".join(sorted(_pages_of.get(module, ()))) or "the reference"
        public = importlib.import_module(module)
        # A function that has its module's name is shown under its full path.
        names = [{f"{module}.{it}", f"{module}.{it}.{it}"} for it in public.__all__]
        checks = (*getattr(public, "LINK_CHECKS", ()), *getattr(public, "FLEET_CHECKS", ()))
        names += [{f"{check.__module__}.{check.__name__}"} for check in checks]
        for paths in names:
            found = {page for path in paths for page in _shown_on.get(path, ())}
            if not found:
                logger.warning("%s does not show %s", pages, min(paths, key=len))
            if len(found) > 1:
                logger.warning("%s is shown more than once: %s", min(paths, key=len), ", ".join(sorted(found)))
        if module not in _pages_of:
            logger.warning("the reference does not show %s", module)
    logger.info("links to other sites, not fetched:\n%s", "\n".join(f"    {url}" for url in sorted(_elsewhere)))
