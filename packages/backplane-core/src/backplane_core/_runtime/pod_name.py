"""What a pod is called if nobody names it: `default_pod_name`."""

from __future__ import annotations

import os
import socket

__all__ = ["default_pod_name"]


def default_pod_name(most: int) -> str:
    """Return host and process id, `web-3-4711`: in containers the host's name is the pod's, and a host may run more.

    Args:
        most: Characters that it may have.
    """
    process = f"-{os.getpid()}"
    host = "".join(filter(str.isprintable, socket.gethostname()))
    return f"{host[: most - len(process)]}{process}"
