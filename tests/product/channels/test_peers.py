"""The own tests of channels_redis run against our layer, as far as they are about what a layer does.

They come with its source distribution, which is fetched for this test. Nothing of it is kept here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from backplane_testservers import Broker

pytestmark = pytest.mark.slow

VERSION = "4.3.0"

NORMAL = "a normal channel, which this layer refuses"
INSIDE = "looks inside that layer"
EXCLUDED = {
    "test_pubsub.py": {
        "test_layer_close": NORMAL,
        "test_receive_on_non_owned_general_channel": f"{NORMAL}, and a message that is no dict",
        "test_loop_instance_channel_layer_reference": INSIDE,
        "test_serialize": INSIDE,
        "test_deserialize": INSIDE,
        "test_multi_event_loop_garbage_collection": INSIDE,
        "test_auto_reconnect": f"{INSIDE}; brokers are killed in tests of our own",
    },
    "test_core.py": {
        "test_send_receive": NORMAL,
        "test_multi_send_receive": NORMAL,
        "test_send_capacity": NORMAL,
        "test_send_specific_capacity": NORMAL,
        "test_groups_channel_full": NORMAL,
        "test_double_receive": "a channel that another event loop reads from than that which made it",
        "test_random_reset__client_prefix": INSIDE,
        "test_default_group_key_format": INSIDE,
        "test_custom_group_key_format": INSIDE,
        "test_receive_buffer_respects_capacity": INSIDE,
    },
}
PASSED = {"test_pubsub.py": 10, "test_core.py": 18}
"""How many there are besides; a test that expects its own layer to fail counts if ours does or does not."""

LAYER = """
import os

from backplane_channels import BackplaneChannelLayer
from channels.exceptions import ChannelFull


class RedisChannelLayer(BackplaneChannelLayer):
    def __init__(self, hosts=None, **config):
        super().__init__(os.environ["LAYER_URL"], **{**config, "prefix": os.environ["LAYER_PREFIX"]})


RedisPubSubChannelLayer = RedisChannelLayer


def _close_redis(client):
    raise AssertionError("nothing of that layer is here")
"""

LEAVE_OUT = """
import os


def pytest_collection_modifyitems(items):
    excluded = os.environ["EXCLUDED"].split()
    unknown = set(excluded) - {item.originalname for item in items}
    assert not unknown, unknown
    items[:] = [item for item in items if item.originalname not in excluded]
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tests, unpacked, where the names that they import are ours."""
    folder = tmp_path_factory.mktemp("channels_redis")
    fetch = ["uv", "run", "--quiet", "--no-project", "--with", "pip", "--with", "setuptools", "--with", "wheel"]
    pip = ["python", "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    done = subprocess.run(
        [*fetch, *pip, f"channels_redis=={VERSION}"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    names = folder / "names" / "channels_redis"
    names.mkdir(parents=True)
    for module in ("__init__", "core", "pubsub", "utils"):
        (names / f"{module}.py").write_text(LAYER)
    (folder / "names" / "async_timeout.py").write_text("from asyncio import timeout\n")
    (folder / "conftest.py").write_text(LEAVE_OUT)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    return folder


@pytest.mark.parametrize("name", EXCLUDED)
def test_their_tests_pass(theirs: Path, shared_broker: Broker, name: str) -> None:
    file = theirs / f"channels_redis-{VERSION}" / "tests" / name
    report = theirs / f"{uuid.uuid4().hex}.xml"
    options = [
        "-q",
        "-c",
        str(theirs / "pytest.ini"),
        "--rootdir",
        str(theirs),
        "--tb=native",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:faker",
        "-p",
        "no:valkey",
        f"--junitxml={report}",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        cwd=theirs,
        env={
            **os.environ,
            "PYTHONPATH": str(theirs / "names"),
            "EXCLUDED": " ".join(EXCLUDED[name]),
            "LAYER_URL": shared_broker.url,
            "LAYER_PREFIX": f"t-{uuid.uuid4().hex}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    suite = ET.parse(report).getroot()[0]
    assert int(suite.attrib["tests"]) == PASSED[name], done.stdout
