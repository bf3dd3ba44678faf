"""Threads and waits, also in a process whose threads are greenlets: gevent and eventlet replace the standard ones."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeVar, cast

from backplane_core.errors import ClosedError, ConfigurationError

__all__ = ["has_greenlets_for_threads", "pause", "result_of", "start_thread"]

T = TypeVar("T")

PAUSE_S: Final = 0.0005
"""Seconds between two looks at something that another thread will change: too short to be felt."""


class Work(Protocol):
    """What a thread does."""

    def run_thread(self) -> None:
        """Work until the thread should end."""
        ...


def start_thread(work: Work) -> None:
    """Run something in a thread of the operating system, even where `threading` makes greenlets.

    An event loop in a greenlet would be the running loop of every greenlet of its thread: `asyncio.run` would fail in
    all of them, and so would Django's database.

    Raises:
        ClosedError: No thread can be started: the interpreter is ending.
        ConfigurationError: This is uWSGI, and it runs no threads.
    """
    _check_uwsgi()
    try:
        if (gevent := _green("gevent.monkey", "is_module_patched", "threading")) is not None:
            gevent.get_original("_thread", "start_new_thread")(work.run_thread, ())
        else:
            eventlet = _green("eventlet.patcher", "is_monkey_patched", "thread")
            module: Any = threading if eventlet is None else eventlet.original("threading")
            cast("threading.Thread", module.Thread(target=work.run_thread, name="backplane", daemon=True)).start()
    except RuntimeError as error:
        raise ClosedError(f"no thread can be started for the event loop: {error}") from None


def has_greenlets_for_threads() -> bool:
    """Return whether threads are greenlets here, which end with the thread that started them, finished or not."""
    return bool(
        _green("gevent.monkey", "is_module_patched", "threading")
        or _green("eventlet.patcher", "is_monkey_patched", "thread")
    )


def result_of(future: Future[T]) -> T:
    """Wait for what another thread will put there; in a green process other greenlets run meanwhile.

    Raises:
        CancelledError: The future was cancelled.
        Exception: Whatever the other thread put there.
    """
    if has_greenlets_for_threads():
        # A green lock belongs to one thread's greenlets: what another thread sets does not reliably wake them.
        while not future.done():
            pause()
    return future.result()


def pause(seconds: float = PAUSE_S) -> None:
    """Let other threads run, and other greenlets. It takes no lock, so a signal handler may do it anywhere."""
    time.sleep(seconds)


def _green(module: str, question: str, about: str) -> Any | None:  # noqa: ANN401 -- of a library that may be absent
    """Return the module that has patched the standard library, if it has."""
    patcher = sys.modules.get(module)
    return patcher if patcher is not None and getattr(patcher, question)(about) else None


def _check_uwsgi() -> None:
    uwsgi = sys.modules.get("uwsgi")  # exists only inside uWSGI
    options: dict[Any, Any] = getattr(uwsgi, "opt", {}) if uwsgi is not None else {}
    if options and not {"enable-threads", "threads"} & {
        name.decode() if isinstance(name, bytes) else str(name) for name in options
    }:
        raise ConfigurationError("uWSGI runs Python threads only with --enable-threads, and events are sent from one")
