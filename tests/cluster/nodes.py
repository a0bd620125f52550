"""Single real nodes with any command line, for tests of how they become members and cease to be."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from raftwright.cli.localcluster import HOST, PEER_PORT_OFFSET
from tests.cluster.processes import until
from tests.cluster.support import free_port


@dataclass
class Nodes:
    """Nodes named `n1`, `n2`… on ports of their own; their data is under `directory`."""

    directory: Path
    port: int
    http: aiohttp.ClientSession
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def client(self, name: str) -> str:
        return f"{HOST}:{self.port + int(name[1:])}"

    def peer(self, name: str) -> str:
        return f"{HOST}:{self.port + PEER_PORT_OFFSET + int(name[1:])}"

    def data(self, name: str) -> Path:
        return self.directory / name

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def start(self, name: str, *flags: str, data: str | None = None) -> None:
        """Start a node; `data` is another data directory than its own."""
        command = [
            *(sys.executable, "-m", "raftwright", "node", "--name", name),
            *("--data-dir", str(self.data(data or name))),
            *("--client-listen", self.client(name), "--peer-listen", self.peer(name), "--shutdown-timeout-s", "0.5"),
            *flags,
        ]
        with (self.directory / f"{name}.log").open("ab") as output:
            self._processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def send_signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    async def stop(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        process = self._processes.pop(name)
        process.send_signal(number)
        return await asyncio.to_thread(process.wait)

    async def stop_all(self) -> None:
        for process in self._processes.values():
            process.kill()
        for name in list(self._processes):
            await asyncio.to_thread(self._processes.pop(name).wait)

    async def ask(self, name: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """HTTP status and decoded JSON; status 0 where there is no answer. A body that is bytes goes as it is."""
        data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        try:
            async with self.http.request(
                method, f"http://{self.client(name)}{path}", data=data, headers=headers
            ) as answer:
                text = await answer.read()
                return answer.status, orjson.loads(text) if "json" in answer.content_type else text
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, None

    async def status(self, name: str) -> dict[str, Any]:
        return (await self.ask(name, "GET", "/v1/status"))[1] or {"state": "away"}

    async def until_state(self, name: str, state: str) -> dict[str, Any]:
        """Wait until the node says that it is in this state."""

        async def found() -> dict[str, Any] | None:
            said = await self.status(name)
            return said if said["state"] == state else None

        said: dict[str, Any] = await until(f"{name} is {state}", found)
        return said

    async def until_ready(self, *names: str) -> None:
        for name in names:

            async def found(name: str = name) -> bool:
                return (await self.ask(name, "GET", "/readyz"))[0] == 200

            await until(f"{name} is ready", found)

    async def store_id(self, name: str) -> str:
        async def found() -> str | None:
            return (await self.status(name)).get("store_id")

        return str(await until(f"{name} says its store id", found))

    async def spec(self, name: str, **more: Any) -> dict[str, Any]:
        """What is said of a node to add it."""
        addresses = {"peer": self.peer(name), "client": self.client(name)}
        return {"name": name, "store_id": await self.store_id(name), "addresses": addresses, **more}

    async def bootstrap(self, name: str, *others: str, cluster_id: str = "test-cluster") -> dict[str, Any]:
        """The body by which `name` was made the first node of a cluster with the others."""
        body = {"cluster_id": cluster_id, "members": [await self.spec(one) for one in (name, *others)]}
        for member in body["members"]:
            assert isinstance(member, dict)
        status, answer = await self.ask(name, "POST", "/v1/cluster/bootstrap", body)
        assert status == 200, answer
        await self.until_ready(name, *others)
        return body

    async def roles(self, name: str) -> dict[str, str]:
        status, answer = await self.ask(name, "GET", "/v1/members")
        assert status == 200, answer
        return {member["name"]: member["role"] for member in answer["members"]}

    async def version(self, name: str) -> int:
        return int((await self.ask(name, "GET", "/v1/members"))[1]["version"])

    async def leader(self, name: str) -> str:
        """The leader's name, as `name` knows it."""

        async def found() -> str | None:
            members = (await self.status(name)).get("members", [])
            return next((member["name"] for member in members if member["leader"]), None)

        return str(await until("a leader", found))


@contextlib.asynccontextmanager
async def nodes_in(directory: Path) -> AsyncIterator[Nodes]:
    """Nodes that are gone when the block ends."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        nodes = Nodes(directory, free_port(10), http)
        try:
            yield nodes
        finally:
            await nodes.stop_all()
