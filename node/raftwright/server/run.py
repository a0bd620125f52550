"""Running a node as a process: the event loop, logging, signals, and what is said when it cannot go on.

`raftwright node` calls `run_node`. Rule: every end has an exit status and, unless it was asked for, one line on what
to do.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable

from raftwright.machine.loading import load_machine
from raftwright.server.founding import WrongMembers
from raftwright.server.live_settings import reloaded
from raftwright.server.machine import InvalidSnapshot, Machine
from raftwright.server.node import Node
from raftwright.server.parts import WrongIdentity
from raftwright.server.settings import NodeSettings, SettingsError
from raftwright.storage.errors import StorageError, WrongStore

_log = logging.getLogger(__name__)

GC_AT_FIRST, GC_THEN = (500_000, 50, 1000), (50_000, 20, 100)
GC_AT_FIRST_S = 30.0
EXIT_STOPPED, EXIT_FAILED, EXIT_REFUSED = 0, 1, 2


def run_node(settings: NodeSettings, read_again: Callable[[], NodeSettings] | None = None) -> int:
    """Run a node until SIGTERM or SIGINT; returns the exit status: 0 stopped, 1 the environment failed (disk,
    port), 2 refused to start as somebody it is not. A failed disk ends the process at once, without clean-up.

    On SIGHUP, what `read_again` returns takes effect as far as it may."""
    _set_up_logging(settings)
    # The state is millions of long-lived objects: looking through them all over and over finds nothing.
    # At first, while the log is replayed, all that is made lasts.
    gc.set_threshold(*GC_AT_FIRST)
    if settings.uvloop:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings, read_again))
    with asyncio.Runner() as runner:
        return runner.run(_run(settings, read_again))


async def _run(settings: NodeSettings, read_again: Callable[[], NodeSettings] | None) -> int:
    """One node after the other: the next one begins with the empty store that the last one left."""
    loop = asyncio.get_running_loop()
    loop.call_later(GC_AT_FIRST_S, gc.set_threshold, *GC_THEN)
    is_asked_to_stop = False
    begins = True
    while begins and not is_asked_to_stop:
        try:
            node = Node(settings, _machine(settings))
        except ValueError as error:
            _log.error("state_machine: %s", error)
            return EXIT_REFUSED
        node.discarding.is_possible = True

        def stop(node: Node = node) -> None:
            nonlocal is_asked_to_stop
            is_asked_to_stop = True
            node.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        if read_again is not None:
            loop.add_signal_handler(signal.SIGHUP, _reload, node, read_again)
        try:
            await node.run()
        except Exception as error:
            return _explain(_first(error))
        settings, begins = node.settings, node.begins_anew
    _log.info("%s has stopped", settings.name)
    return EXIT_STOPPED


def _machine(settings: NodeSettings) -> Machine | None:
    """Of one's own, new and empty. ValueError if there is none."""
    return load_machine(settings.state_machine) if settings.state_machine else None


def _reload(node: Node, read_again: Callable[[], NodeSettings]) -> None:
    try:
        settings, refused = reloaded(node.settings, read_again())
    except SettingsError as error:
        _log.error("the settings stay as they are: %s", error)
        return
    if refused:
        _log.error("these settings cannot change while the node runs; restart it: %s", ", ".join(refused))
    node.use(settings)
    _log.info("the settings were read again")


def _explain(error: BaseException) -> int:
    match error:
        case WrongIdentity() | WrongMembers() | WrongStore():
            _log.error("%s", error)
            return EXIT_REFUSED
        case InvalidSnapshot():
            _log.error("the state machine cannot load the snapshot: %s", error)
            return EXIT_REFUSED
        case StorageError():
            # Nothing that memory says of the disk is true any more: no clean-up that could write.
            _end("%s", error)
        case OSError():
            _log.error("%s", error)
        case _:
            _end("this is a bug; the node stops rather than go on wrongly: %s", error)
    return EXIT_FAILED


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _end(text: str, error: BaseException) -> None:
    _log.critical(text, error, exc_info=None if isinstance(error, StorageError) else error)
    logging.shutdown()
    os._exit(EXIT_FAILED)


def _set_up_logging(settings: NodeSettings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if settings.log_format == "json" else _TextFormatter(settings.name))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)


class _TextFormatter(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03dZ {name} %(levelname)-7s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)
