"""Uploads what was built, in an order in which every step can be installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from scripts.releasing.building import built_files
from scripts.releasing.shell import ReleaseError, run, uv
from scripts.releasing.workspace import Distribution, in_order, read_workspace

__all__ = ["PYPI_SIMPLE", "PYPI_UPLOAD", "publish"]

PYPI_UPLOAD = "https://upload.pypi.org/legacy/"
PYPI_SIMPLE = "https://pypi.org/simple/"


def publish(
    root: Path,
    dist: Path,
    *,
    upload_url: str = PYPI_UPLOAD,
    simple_url: str = PYPI_SIMPLE,
    dry_run: bool = False,
    trusted: bool = False,
    say: Callable[[str], None],
) -> None:
    """Upload every version that the index does not have yet.

    Credentials are uv's affair: trusted publishing where CI vouches for us, else `UV_PUBLISH_TOKEN`.

    Args:
        root: The workspace.
        dist: Where `build` put the files.
        upload_url: Where files are uploaded to.
        simple_url: The same index, as installers see it: what it has is skipped.
        dry_run: Say what would be uploaded, and upload nothing.
        trusted: Insist on trusted publishing.
        say: Gets one line per distribution.

    Raises:
        ReleaseError: A file is missing, or the index refused it. What went up before stays; run it again to go on.
    """
    distributions = in_order(read_workspace(root))
    files = {it.name: built_files(dist, it) for it in distributions}
    for it in distributions:
        present = _present(simple_url, it)
        if all(path.name in present for path in files[it.name]):
            say(f"{it.name} {it.version}: already published, skipped")
        elif dry_run:
            say(f"{it.name} {it.version}: would be published")
        else:
            # uv skips a file that is there with the same content: an upload that was cut off half-way goes on.
            run(
                *(uv(), "publish", "--quiet", "--publish-url", upload_url, "--check-url", simple_url),
                *("--trusted-publishing", "always" if trusted else "automatic"),
                *files[it.name],
                cwd=root,
            )
            say(f"{it.name} {it.version}: published")


def _present(simple_url: str, it: Distribution) -> str:
    """Return the index's page of a distribution, in which each file's name stands; nothing where it has none."""
    request = Request(f"{simple_url.rstrip('/')}/{it.name}/", headers={"Accept": "text/html"})  # noqa: S310 -- the caller's own index
    try:
        with urlopen(request, timeout=30) as answer:  # noqa: S310 -- the caller's own index
            return str(answer.read().decode())
    except HTTPError as error:
        if error.code == 404:  # noqa: PLR2004 -- not found: never published
            return ""
        raise ReleaseError(
            f"{simple_url} answers {error.code} for {it.name}: try again, or name another index"
        ) from error
    except URLError as error:
        raise ReleaseError(
            f"{simple_url} can't be reached ({error.reason}): try again, or name another index"
        ) from error
