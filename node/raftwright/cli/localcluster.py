"""A cluster on this machine, one process a node: where it lives, and how its nodes start, die and stop.

Used by the commands `local` and `demo`, by the benchmarks and by the tests that kill nodes. Rule: `local.json` always
names the processes as they are; it is replaced as a whole whenever a pid changes.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson

HOST = "127.0.0.1"
PEER_PORT_OFFSET = 1000
LOG_BYTES_MAX = 8 * 1024 * 1024
STOP_TIMEOUT_S = 15.0
POLL_S = 0.02


class LocalError(Exception):
    """The cluster cannot be started or changed as asked. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One node of a local cluster. `client` and `peer` are `host:port`; `pid` is None while it does not run."""

    name: str
    pid: int | None
    client: str
    peer: str


@dataclass(slots=True)
class LocalCluster:
    """The nodes under one directory."""

    directory: Path
    nodes: dict[str, LocalNode]
    flags: Sequence[str] = ()
    """Given to every node besides those that say where it is."""
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def at(cls, directory: Path, *, count: int | None = None, port: int | None = None) -> "LocalCluster":
        """The cluster that lives in `directory`, or a new one of `count` nodes (3) from `port` on (7001)."""
        file = directory / "local.json"
        if not file.exists():
            return cls(directory, _layout(3 if count is None else count, 7001 if port is None else port))
        nodes = read_layout(directory)
        first_port = int(next(iter(nodes.values())).client.rpartition(":")[2])
        if (count or len(nodes)) != len(nodes) or (port or first_port) != first_port:
            raise LocalError(
                f"{directory} holds a cluster of {len(nodes)} nodes from port {first_port} on. Leave --nodes and "
                "--port out to start it again, or choose another --data-dir."
            )
        return cls(directory, nodes)

    @property
    def endpoints(self) -> list[str]:
        return [node.client for node in self.nodes.values()]

    def data_directory(self, name: str) -> Path:
        return self.directory / name

    def log_file(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def is_alive(self, name: str) -> bool:
        """Whether the node's process lives, whoever started it."""
        return self._is_ours(self.nodes[name])

    def running(self) -> list[LocalNode]:
        """The nodes whose processes live, whoever started them."""
        return [node for node in self.nodes.values() if self._is_ours(node)]

    def start(self) -> None:
        """Start every node. LocalError if some run already or a port is taken; nothing is started then."""
        if running := self.running():
            pids = ", ".join(f"{node.name}: pid {node.pid}" for node in running)
            raise LocalError(
                f"{self.directory} is running already ({pids}). "
                f"Stop it with: raftwright local --stop --data-dir {self.directory}"
            )
        for node in self.nodes.values():
            for address, use in ((node.client, "clients"), (node.peer, "peers")):
                _check_free(address, f"{node.name}'s {use}")
        for name in self.nodes:
            self.start_node(name)

    def start_node(self, name: str) -> None:
        """Start one node, on its data if it has any."""
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.log_file(name)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal reaches whoever watches the nodes, and that one stops them.
            # And no asyncio subprocess, which would be killed with the event loop: a node may outlive its starter.
            process = subprocess.Popen(
                self.command(name), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._processes[name] = process
        self._set_pid(name, process.pid)

    def command(self, name: str) -> list[str]:
        """The command line of a node."""
        node = self.nodes[name]
        members = ",".join(f"{other.name}={other.peer}/{other.client}" for other in self.nodes.values())
        return [
            *(sys.executable, "-m", "raftwright", "node", "--name", name),
            *("--data-dir", str(self.data_directory(name).absolute())),
            *("--client-listen", node.client, "--peer-listen", node.peer, "--members", members),
            *self.flags,
        ]

    async def watch(self, name: str) -> int:
        """Wait until the process that was started for a node ends: its exit status, negative for a signal."""
        process = self._processes[name]
        while (status := process.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        if self.nodes[name].pid == process.pid:
            self._set_pid(name, None)
        return status

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a node and, if this process started it, wait until it is gone."""
        node = self.nodes[name]
        if node.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node.pid, number)
        if name in self._processes:
            await self.watch(name)

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S, *, of_others: bool = False) -> list[str]:
        """Stop the nodes that this object started, or also those that others did, cleanly and together. Returns the
        names of those that had to be killed."""
        names = {node.name for node in self.running() if of_others or node.name in self._processes}
        deadline = time.monotonic() + timeout_s
        for node in self._running_of(names):
            with contextlib.suppress(ProcessLookupError):
                os.kill(node.pid or 0, signal.SIGTERM)
        # They may be children of another process, so there is nothing to wait on but the list of processes.
        while (stubborn := self._running_of(names)) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        for node in stubborn:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node.pid or 0, signal.SIGKILL)
        for name in self._processes:
            await self.watch(name)
        for node in list(self.nodes.values()):
            if node.pid is not None and not self._is_ours(node):
                self._set_pid(node.name, None)
        return [node.name for node in stubborn]

    def log_tail(self, name: str, lines: int = 5) -> str:
        """The end of a node's log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file(name).read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _running_of(self, names: set[str]) -> list[LocalNode]:
        return [node for node in self.running() if node.name in names]

    def _is_ours(self, node: LocalNode) -> bool:
        if process := self._processes.get(node.name):
            return process.poll() is None and process.pid == node.pid
        return node.pid is not None and str(self.data_directory(node.name).absolute()) in _command_line(node.pid)

    def _set_pid(self, name: str, pid: int | None) -> None:
        self.nodes[name] = replace(self.nodes[name], pid=pid)
        document = {"nodes": [asdict(node) for node in self.nodes.values()]}
        temporary = self.directory / f".local.json.{os.getpid()}"
        temporary.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
        temporary.replace(self.directory / "local.json")


def read_layout(directory: Path) -> dict[str, LocalNode]:
    """The nodes of `directory/local.json`, by name. LocalError if it is not there or not such a file."""
    file = directory / "local.json"
    try:
        nodes = [LocalNode(**node) for node in orjson.loads(file.read_bytes())["nodes"]]
    except FileNotFoundError:
        raise LocalError(f"There is no cluster in {directory}: {file} does not exist.") from None
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise LocalError(f"{file} does not describe a cluster: {error}") from None
    if not nodes:
        raise LocalError(f"{file} names no node.")
    return {node.name: node for node in nodes}


def _layout(count: int, port: int) -> dict[str, LocalNode]:
    if not 1 <= count <= PEER_PORT_OFFSET:
        raise LocalError(f"--nodes is {count}; it must be between 1 and {PEER_PORT_OFFSET}.")
    if not 1 <= port <= 65535 - PEER_PORT_OFFSET - count:
        raise LocalError(f"--port is {port}; with its nodes and their peers it must end below 65536.")
    return {
        f"node{number}": LocalNode(
            name=f"node{number}",
            pid=None,
            client=f"{HOST}:{port + number - 1}",
            peer=f"{HOST}:{port + PEER_PORT_OFFSET + number - 1}",
        )
        for number in range(1, count + 1)
    }


def _check_free(address: str, use: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise LocalError(
                f"Port {port}, wanted for {use}, is taken ({error.strerror}). Stop what listens there, or choose other "
                "ports with --port."
            ) from None


def _command_line(pid: int) -> str:
    """The command line of a process; empty if there is none. A pid may be in use by something else by now."""
    proc = Path(f"/proc/{pid}/cmdline")
    if proc.parent.parent.joinpath("self").exists():
        with contextlib.suppress(OSError):
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    done = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout


@contextlib.asynccontextmanager
async def stopping(cluster: LocalCluster) -> AsyncIterator[LocalCluster]:
    """Stop what the block started when it ends, however it ends."""
    try:
        yield cluster
    finally:
        await asyncio.shield(asyncio.ensure_future(cluster.stop()))
