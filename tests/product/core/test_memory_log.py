"""In memory a pod says that it reaches no other process: as a warning where there seem to be several."""

from __future__ import annotations

import logging

import pytest
from backplane_core import InMemoryBackplane, memory
from backplane_core._runtime.workers import find_workers


@pytest.mark.parametrize(
    ("arguments", "environment", "process", "found"),
    [
        (["uvicorn", "app:app"], {}, "MainProcess", None),
        (["uvicorn", "app:app", "--workers", "4"], {}, "SpawnProcess-1", "--workers 4"),
        (["gunicorn", "-w", "2", "app:app"], {}, "MainProcess", "-w 2"),
        (["gunicorn", "-w3", "app:app"], {}, "MainProcess", "-w3"),
        (["granian", "--workers=16", "app:app"], {}, "Process-1", "--workers=16"),
        (["uwsgi", "--processes", "4"], {}, "MainProcess", "--processes 4"),
        (["gunicorn", "app:app"], {"GUNICORN_CMD_ARGS": "--bind=127.0.0.1 --workers=3"}, "MainProcess", "--workers=3"),
        (["uvicorn", "app:app"], {"WEB_CONCURRENCY": "4"}, "MainProcess", "WEB_CONCURRENCY=4"),
        (["uvicorn", "app:app"], {"WEB_CONCURRENCY": "1"}, "MainProcess", None),
        (["uvicorn", "app:app"], {"WEB_CONCURRENCY": "many"}, "MainProcess", None),
        (["uvicorn", "app:app", "--workers", "1"], {}, "MainProcess", None),
        (["main.py"], {}, "SpawnProcess-1", None),
        (["main.py"], {}, "SpawnProcess-2", "SpawnProcess-2"),
        (["main.py"], {}, "ForkProcess-12", "ForkProcess-12"),
        (["uvicorn", "app:app", "--reload"], {}, "SpawnProcess-7", None),
        (["gunicorn"], {"GUNICORN_CMD_ARGS": "--name 'broken"}, "MainProcess", None),
    ],
)
def test_workers_are_found(arguments: list[str], environment: dict[str, str], process: str, found: str | None) -> None:
    assert find_workers(arguments, environment, process) == found


@pytest.mark.parametrize(("evidence", "level"), [(None, logging.INFO), ("--workers 4", logging.WARNING)])
def test_it_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, evidence: str | None, level: int
) -> None:
    caplog.set_level(logging.INFO, "backplane")
    monkeypatch.setattr(memory, "find_workers", lambda: evidence)
    InMemoryBackplane(pod_name="web-3")
    (line,) = caplog.records
    assert line.levelno == level
    assert line.getMessage().startswith("pod 'web-3': live in memory, reaches no other process")
    assert (evidence or "") in line.getMessage()
