"""Ports of servers: no two processes of a machine choose the same, whichever run of the tests they belong to."""

from __future__ import annotations

import json
import subprocess
import sys

from backplane_testservers import free_port

ASK = """
import json, sys
from backplane_testservers import free_port
print(json.dumps([free_port() for _ in range(150)]), flush=True)
sys.stdin.readline()
"""


def test_processes_that_live_at_the_same_time_choose_no_port_twice() -> None:
    pipe = subprocess.PIPE
    others = [subprocess.Popen([sys.executable, "-c", ASK], stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    chosen = [free_port() for _ in range(150)]
    for other in others:
        assert other.stdout is not None
        chosen += json.loads(other.stdout.readline())
    for other in others:
        other.communicate("\n")
    assert len(set(chosen)) == len(chosen) == 4 * 150


FORK = """
import json, os
from backplane_testservers import free_port
mine = {free_port()}
reader, writer = os.pipe()
if not os.fork():
    os.write(writer, json.dumps([free_port() for _ in range(150)]).encode())
    os._exit(0)
os.wait()
mine |= {free_port() for _ in range(150)}
assert not mine & set(json.loads(os.read(reader, 1 << 16)))
"""


def test_a_forked_child_chooses_other_ports_than_its_parent() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True)
