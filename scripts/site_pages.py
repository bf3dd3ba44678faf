"""A hook for MkDocs that shows files of the repository on the site and checks every link.

It is named in mkdocs.yml. Anything wrong is a warning, on which `mkdocs build --strict` fails.

- A line `--8<-- "SECURITY.md"` is replaced by that file of the repository.
- A link to a file of the repository leads to the page that shows it, or else to that file on GitHub.
- A link to another site is checked for its form, and listed: nothing is fetched.
- No page may load a script, style, font or picture from another site.
- The reference shows every public name.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
SHOWN: Final = {
    "SECURITY.md": "explanation/security.md",
    "adapters/backplane-redis/README.md": "reference/redis.md",
    "adapters/backplane-nats/README.md": "reference/nats.md",
    "packages/backplane-asgi/README.md": "reference/asgi.md",
}
"""Files of the repository, and the pages that show them."""

PUBLIC: Final = frozenset(
    {
        "backplane_core",
        "backplane_core.sockets",
        "backplane_core.testing",
        "backplane_core.testing.pytest_plugin",
        "backplane_redis",
        "backplane_nats",
        "backplane_asgi",
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
_reference: Final = re.compile(r"^::: ([a-z_.]+)$", re.MULTILINE)

_elsewhere: Final[set[str]] = set()
_referred: Final[set[str]] = set()


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
    """Check the form of links to other sites, and that a page of the reference is complete."""
    name = page.file.src_uri
    urls: list[str] = _href.findall(html)
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme != "https" or "." not in parts.netloc or not re.fullmatch(r"[!-~]+", url):
            logger.warning("%s: %r is not the form of a link to another site", name, url)
        _elsewhere.add(url)
    shown: set[str] = set(re.findall(r'id="([\w.]+)"', html))
    for module in PUBLIC.intersection(_reference.findall(page.markdown or "")):
        _referred.add(module)
        public = importlib.import_module(module)
        for it in public.__all__:
            # A function that has its module's name is shown under its full path.
            if not {f"{module}.{it}", f"{module}.{it}.{it}"} & shown:
                logger.warning("%s does not show %s.%s", name, module, it)
        for check in (*getattr(public, "LINK_CHECKS", ()), *getattr(public, "FLEET_CHECKS", ())):
            if f"{check.__module__}.{check.__name__}" not in shown:
                logger.warning("%s does not show %s", name, check.__name__)
    return html


def on_post_page(output: str, *, page: Page, config: Config) -> str:  # noqa: ARG001 -- MkDocs' names
    """Check that the page loads nothing from another site."""
    for loaded in _loaded.findall(output):
        logger.warning("%s loads from another site: %s", page.file.src_uri, loaded)
    return output


def on_post_build(*, config: Config) -> None:  # noqa: ARG001 -- MkDocs' names
    """Check that no module is missing, and list the links to other sites."""
    for module in sorted(PUBLIC - _referred):
        logger.warning("the reference does not show %s", module)
    logger.info("links to other sites, not fetched:\n%s", "\n".join(f"    {url}" for url in sorted(_elsewhere)))
