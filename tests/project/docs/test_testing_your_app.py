"""The project that docs/how-to/testing-your-app.md builds up passes its own tests, and they can fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.docs.pages import OPTIONS, ROOT, files
from tests.support.warm import run_pytest

PAGE = ROOT / "docs/how-to/testing-your-app.md"

pytestmark = pytest.mark.xdist_group("warm")  # one warm interpreter for all that is forked from it

AUTO = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text)
    # A configuration of its own, or the workspace's would be found.
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\naddopts = {OPTIONS}\n")
    return tmp_path


def outcome(output: str) -> str:
    """The counts of pytest's last line: `7 passed`, `1 passed, 1 error`."""
    counts = re.findall(r"\d+ (?:passed|failed|errors?|skipped|warnings?)", output.splitlines()[-1])
    return ", ".join(counts)


def test_the_pages_project_passes(project: Path) -> None:
    ran = run_pytest(project, *AUTO)
    assert (ran.code, outcome(ran.output)) == (0, "7 passed"), ran.output


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("test_one_pod.py", 'phone.next() == {"kind": "job_done", "job": "j7"}', "phone.next() == {}"),
        ("app.py", "Target.user(user), event", "Target.everyone(), event"),
        ("app.py", "[by] if by is not None else []", "[]"),
        ("app.py", "on_gap=missed", "on_gap=None"),
        ("app.py", "await websocket.close(4008)", "pass"),
    ],
)
def test_a_wrong_test_and_a_wrong_app_fail(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, right: str, wrong: str
) -> None:
    text = (project / name).read_text()
    assert right in text
    (project / name).write_text(text.replace(right, wrong))
    (project / "browser.py").write_text((project / "browser.py").read_text().replace("timeout(5)", "timeout(0.5)"))
    ran = run_pytest(project, *AUTO, "-x")
    assert ran.code == 1
    assert "failed" in outcome(ran.output)


HOST = """
import asyncio
from backplane_core import Target

def publish_to(backplane, sink, **options):
    async def scenario():
        async with backplane:
            await backplane.attach("conn-1", sink, **options)
            await backplane.publish(Target.connection("conn-1"), "hi")
    asyncio.run(scenario())

def fails(*_):
    raise KeyError("secret")

def test_well(make_pod):
    publish_to(make_pod(), lambda value: None)

def test_own_observer(make_pod):
    seen = []
    publish_to(make_pod(observer=seen.append), lambda value: None)
    assert seen

def test_never_opened(make_pod):
    make_pod()

def test_sink(make_pod):
    publish_to(make_pod(), fails)

def test_sink_in_memory(backplane):
    publish_to(backplane, fails)

def test_callback(make_pod):
    publish_to(make_pod(on_state=fails), lambda value: None)

def test_left_open(make_pod):
    asyncio.run(make_pod().open())
    # The loop is gone, and with it whoever could close the pod.

def test_used_after_the_test(backplane):
    global late
    late = backplane

def test_is_closed():
    assert late.state == "closed"
"""


def test_what_a_backplane_contains_fails_the_test_whatever_async_plugin_there_is(project: Path) -> None:
    (project / "test_host.py").write_text(HOST)
    ran = run_pytest(project, "-p", "no:asyncio", "-rA", "test_host.py")
    ended = set(re.findall(r"^(PASSED|FAILED|ERROR) test_host\.py::(\w+)", ran.output, re.MULTILINE))
    bad = {name for what, name in ended if what != "PASSED"}
    assert bad == {"test_sink", "test_sink_in_memory", "test_callback", "test_left_open"}, ran.output
    assert len(ended) == 9 + len(bad)  # the test passes, and then its fixture complains
    assert "the sink of connection 'conn-1' raised KeyError" in ran.output
    assert "on_gap, on_state or the observer raised, 3 times in all" in ran.output  # live, draining, closed
    assert "1 of 1 pods were left open" in ran.output
    assert "secret" not in ran.output.replace(HOST, "").replace('raise KeyError("secret")', "")


def test_the_plugin_can_be_chosen_on_the_command_line(project: Path) -> None:
    (project / "conftest.py").unlink()
    without = run_pytest(project, *AUTO, "test_two_pods.py")
    assert "fixture 'make_pod' not found" in without.output
    ran = run_pytest(project, *AUTO, "-p", "backplane_core.testing.pytest_plugin", "test_two_pods.py")
    assert (ran.code, outcome(ran.output)) == (0, "1 passed"), ran.output


def test_the_kit_needs_no_pytest() -> None:
    ask = "import sys, backplane_core.testing; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
def test_the_extra_brings_pytest_and_the_project_passes_under_anyio(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    venv = tmp_path_factory.mktemp("anyio") / "venv"
    python = venv / "bin/python"
    core = f"backplane-core[testing] @ {(ROOT / 'packages/backplane-core').as_uri()}"
    for command in (
        ["uv", "venv", "--quiet", "--python", sys.executable, venv],
        ["uv", "pip", "install", "--quiet", "--python", python, core, "anyio>=4.12"],
    ):
        made = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    with (project / "conftest.py").open("a") as conftest:
        conftest.write("\nimport pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n")
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-o", "anyio_mode=auto"],
        cwd=project,
        env={key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, outcome(done.stdout)) == (0, "7 passed"), done.stdout + done.stderr
