"""What would not run, or would run with more rights than it needs, fails the lint of deploy/."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from attrs import frozen

from scripts import lint_deploy
from scripts.releasing.shell import ReleaseError, tools
from tests.project.deploy.files import DEPLOY, ROOT

pytestmark = pytest.mark.thorough


UNIT = "systemd/backplane.service"
DEPLOYMENT = "kubernetes/deployment.yaml"
HPA = "kubernetes/hpa.yaml"


@frozen
class Mistake:
    """What somebody may write in place of what is there, and a word of the lint that finds it."""

    lint: str
    name: str
    old: str
    new: str
    finding: str


MISTAKES = (
    Mistake("dockerfile", "Dockerfile", "USER 10001:10001", "USER root", "DL3002"),
    Mistake("dockerfile", "Dockerfile", 'CMD ["serve"]', "CMD serve", "DL3025"),
    Mistake("compose", "compose.yaml", "healthcheck:", "healtcheck:", "healtcheck"),
    Mistake("kubernetes", DEPLOYMENT, "resources:", "resourcs:", "resourcs"),
    Mistake("kubernetes", HPA, "stabilizationWindowSeconds:", "stabilizationWindow:", "stabilizationWindow"),
    Mistake("nginx", "nginx.conf", "proxy_buffering off;", "proxy_bufering off;", "proxy_bufering"),
    Mistake("systemd", UNIT, "TimeoutStopSec=60", "TimeoutStopSecs=60", "TimeoutStopSecs"),
    Mistake("systemd", UNIT, "DynamicUser=yes", "User=root", "exposure"),
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda it: f"{it.lint}: {it.finding}")
def test_a_mistake_fails_the_lint(mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_lint = getattr(lint_deploy, f"lint_{mistake.lint}")
    try:
        tools("deploy", ROOT)
    except ReleaseError as error:
        pytest.skip(str(error))
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    monkeypatch.setattr(lint_deploy, "DEPLOY", tmp_path / "deploy")
    try:
        run_lint()
    except lint_deploy.AbsentError as error:
        pytest.skip(str(error))
    path = tmp_path / "deploy" / mistake.name
    assert mistake.old in path.read_text()
    path.write_text(path.read_text().replace(mistake.old, mistake.new))
    with pytest.raises(ReleaseError, match=mistake.finding):
        run_lint()


def test_a_program_that_is_absent_is_said_to_be_and_fails_only_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> str:
        raise lint_deploy.AbsentError("promtool: it is not on PATH")

    monkeypatch.setattr(lint_deploy, "LINTS", (absent, lambda: "hadolint: no finding"))
    for options, code in (([], 0), (["--required"], 1)):
        monkeypatch.setattr(sys, "argv", ["lint_deploy.py", *options])
        with pytest.raises(SystemExit) as done:
            lint_deploy.main()
        assert done.value.code == code
        assert capsys.readouterr().out == "NOT run: promtool: it is not on PATH\nhadolint: no finding\n"
