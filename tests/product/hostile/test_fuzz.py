"""A million hostile envelopes: each is read or refused with an `EnvelopeError`, and nothing else ever comes out."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.product.core.test_envelope import HOSTILE
from tests.product.hostile.frames import GOOD, NAMES, TOKENS, VALUES, frame, hostile, mutate
from tests.product.hostile.fuzz_envelope import SIGNED, check, check_signed

HERE = Path(__file__).parent
CORPUS = sorted((HERE / "corpus").iterdir())
SEED = 20_240_101

any_json = st.recursive(
    st.sampled_from(VALUES) | st.integers().map(lambda number: b"%d" % number) | st.floats().map(repr).map(str.encode),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]")
        | st.lists(inner, max_size=3).map(lambda items: b"{" + b",".join([b'"k":' + item for item in items]) + b"}")
    ),
    max_leaves=6,
)
hostile_members = st.dictionaries(st.sampled_from(NAMES[:-1]), any_json, min_size=1, max_size=3)
edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "truncate", "repeat", "insert", "splice"]),
        st.integers(0, 600),
        st.integers(0, 255),
        st.sampled_from(TOKENS),
        st.sampled_from(GOOD),
    ),
    min_size=1,
    max_size=4,
)


def test_what_was_found_before_harms_no_pod() -> None:
    assert 20 < len(CORPUS) < 200
    assert sum(path.stat().st_size for path in CORPUS) < 1 << 20
    assert {check(path.read_bytes()) for path in CORPUS} == {True, False}


@pytest.mark.parametrize("data", GOOD)
def test_good_frames_are_taken(data: bytes) -> None:
    assert check(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_public_decoder_refuses_harms_no_pod(name: str) -> None:
    check(HOSTILE[name])


@pytest.mark.timeout(3_600)
def test_mutations_of_good_frames_are_read_or_refused(long: bool) -> None:  # noqa: FBT001 -- a fixture
    total = 680_000 if long else 25_000
    taken = 0
    for number in range(total):
        # A seed for each: what fails is named by its number alone, and is made again without those before it.
        data = hostile(Random(f"{SEED}:{number}"))
        try:
            taken += check(data)
        except BaseException as error:
            error.add_note(f"envelope {number} of seed {SEED}: {data[:200]!r}")
            raise
    # Mutations that all are refused at the first byte, or are all harmless, would test little.
    assert 0.05 < taken / total < 0.6


@pytest.mark.timeout(3_600)
def test_of_mutations_of_signed_frames_only_what_was_signed_is_taken(long: bool) -> None:  # noqa: FBT001 -- a fixture
    assert all(check_signed(data) for data in SIGNED)
    total = 100_000 if long else 5_000
    taken = 0
    for number in range(total):
        chance = Random(f"{SEED}:signed:{number}")
        # Half of them change the head alone, which is a tenth of the longest.
        signed = chance.choice(SIGNED)
        head, rest = signed[:112], signed[112:]
        data = mutate(chance, signed) if chance.random() < 0.5 else mutate(chance, head) + rest
        try:
            taken += check_signed(data)
        except BaseException as error:
            error.add_note(f"message {number} of seed {SEED}: {data[:300]!r}")
            raise
    assert taken < total / 10  # an edit may put back what stood there


@pytest.mark.timeout(3_600)
def test_members_of_any_shape_and_edits_anywhere_are_read_or_refused(long: bool) -> None:  # noqa: FBT001 -- a fixture
    tried = 0

    @settings(
        max_examples=10_000 if long else 2_000,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(hostile_members, st.sampled_from(GOOD), edits)
    def search(members: dict[str, bytes], good: bytes, changes: list[tuple[str, int, int, bytes, bytes]]) -> None:
        nonlocal tried
        check(frame(**members))
        check(edited(good, changes))
        tried += 2

    search()
    assert tried >= (20_000 if long else 4_000)


def edited(data: bytes, changes: list[tuple[str, int, int, bytes, bytes]]) -> bytes:
    for kind, place, byte, token, other in changes:
        at = place % (len(data) + 1)
        if kind == "flip":
            data = data[:at] + bytes([old ^ byte for old in data[at : at + 1]]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[at + 1 + byte % 8 :]
        elif kind == "truncate":
            data = data[:at]
        elif kind == "repeat":
            data = data[:at] + data[at : at + byte] * 2 + data[at + byte :]
        elif kind == "insert":
            data = data[:at] + token + data[at:]
        else:
            data = data[:at] + other[byte % len(other) :]
    return data


@pytest.mark.timeout(3_600)
def test_a_coverage_guided_search_finds_nothing(long: bool, tmp_path: Path) -> None:  # noqa: FBT001 -- a fixture
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: uv run --group fuzz pytest tests/product/hostile/test_fuzz.py")
    runs = 300_000 if long else 20_000
    command = [
        sys.executable,
        "-m",
        "tests.product.hostile.fuzz_envelope",
        f"-runs={runs}",
        f"-seed={SEED}",
        "-max_len=8192",
    ]
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/", str(tmp_path), str(HERE / "corpus")],
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    assert f"Done {runs} runs" in done.stderr
