"""`scripts/changeset.py`: a changeset without Node.js, and what it refuses."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from scripts.releasing.changesets import pending, read
from scripts.releasing.shell import ReleaseError
from tests.project.release.copies import CORE, NATS, REDIS, ROOT, Copy


def test_it_writes_what_changesets_reads(copy: Copy) -> None:
    written = copy.announce("core=minor", "backplane-redis=patch", message="`publish` takes several targets.")
    assert written == ".changeset/publish-takes-several-targets.md\n"
    text = (copy.root / written.strip()).read_text()
    assert text == '---\n"backplane-core": minor\n"backplane-redis": patch\n---\n\n`publish` takes several targets.\n'


def test_a_second_one_of_the_same_words_lies_beside_the_first(copy: Copy) -> None:
    assert copy.announce("core=minor") != copy.announce("redis=patch")
    assert [dict(it.bumps) for it in pending(copy.root)] == [{REDIS: "patch"}, {CORE: "minor"}]


def test_a_major_of_core_gives_the_adapters_one_of_their_own(copy: Copy) -> None:
    assert len(copy.announce("core=major", message="`Target` has no default.").split()) == 2
    assert [dict(it.bumps) for it in pending(copy.root)] == [{NATS: "major", REDIS: "major"}, {CORE: "major"}]


def test_it_asks_at_a_terminal(copy: Copy) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"huge\nminor\n\n\nPublishing takes several targets.\n")
        command = [sys.executable, "scripts/changeset.py"]
        done = subprocess.run(
            command, cwd=copy.root, stdin=theirs, capture_output=True, text=True, timeout=60, check=True
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert "one of none, patch, minor, major" in done.stdout
    (changeset,) = pending(copy.root)
    assert (changeset.bumps, changeset.text) == ({CORE: "minor"}, "Publishing takes several targets.")


def test_ctrl_c_at_a_question_ends_it_quietly(copy: Copy) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-u", "scripts/changeset.py"]
    process = subprocess.Popen(
        command, cwd=copy.root, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        while not process.stdout.read(1).endswith("["):  # of the question's default
            assert process.poll() is None
        deadline = time.monotonic() + 60
        while process.poll() is None:  # one that comes just before it waits for the answer would be noticed behind it
            assert time.monotonic() < deadline
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
        _, errors = process.communicate()
    finally:
        process.kill()
        os.close(ours)
        os.close(theirs)
    assert (process.returncode, errors.strip()) == (1, "nothing was written")
    assert not pending(copy.root)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nobody to ask here"),
        (["core=minor"], "say in a sentence"),
        (["core=minor", "-m", "fixes"], "say in a sentence"),
        (["-m", "What is new in core."], "which distribution? backplane-core=patch"),
        (
            ["core", "-m", "What is new in core."],
            "'core' is not of the form DISTRIBUTION=BUMP, like backplane-core=minor",
        ),
        (["core=huge", "-m", "What is new in core."], "'huge' is not a bump; use one of patch, minor, major"),
        (
            ["kafka=minor", "-m", "What is new in Kafka."],
            "no distribution is called 'kafka'; there are backplane-core, ",
        ),
        (["core=minor", "backplane-core=patch", "-m", "What is new."], "backplane-core is named twice"),
        (["--none", "core=minor"], "--none takes no other arguments"),
    ],
)
def test_it_refuses_nonsense_and_writes_nothing(copy: Copy, arguments: list[str], message: str) -> None:
    done = copy.run(sys.executable, "scripts/changeset.py", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not pending(copy.root)


@pytest.mark.parametrize("entry", ['"backplane-core": minor', "'backplane-core':  'minor'", "backplane-core: minor"])
def test_one_written_by_hand_is_read(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "x.md"
    path.write_text(f"---\n{entry}\n---\n\nText, and `more`.\n\n- a list\n")
    assert read(path).bumps == {CORE: "minor"}
    assert read(path).text == "Text, and `more`.\n\n- a list"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("What is new.\n", "x.md: no front matter"),
        ('---\n"backplane-core": minor\nWhat is new.\n', "x.md: no front matter"),
        ('---\n"backplane-core" minor\n---\nNew.\n', "x.md: '\"backplane-core\" minor' is not of the form"),
    ],
)
def test_a_malformed_one_names_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.md"
    path.write_text(text)
    with pytest.raises(ReleaseError, match=re.escape(message)):
        read(path)


def test_the_page_about_changesets_shows_one_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text((ROOT / ".changeset" / "README.md").read_text().split("```markdown\n")[1].split("```")[0])
    assert read(path).bumps == {CORE: "minor", REDIS: "patch"}
