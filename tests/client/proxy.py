"""A TCP proxy before a node, that can keep answers back and cut connections: what networks do to clients."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Proxy:
    """Passes bytes on between clients and `target`, as far as it is let."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.endpoint = ""
        self.answers = asyncio.Event()
        """While it is not set, nothing of the node reaches a client."""
        self.answers.set()
        self.bytes_kept = 0
        """Bytes of answers that were kept back."""
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._kept = asyncio.Condition()

    async def cut(self) -> None:
        """Cut every connection; what was kept back is lost."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def kept(self, more_than: int) -> None:
        """Wait until more than so many bytes of answers are kept back."""
        async with self._kept, asyncio.timeout(20):
            await self._kept.wait_for(lambda: self.bytes_kept > more_than)

    async def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        host, _, port = self.target.rpartition(":")
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            self._writers.add(far_writer)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._pass(reader, far_writer, is_answer=False))
                    tasks.create_task(self._pass(far_reader, writer, is_answer=True))
            finally:
                self._writers.discard(far_writer)
                far_writer.transport.abort()
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        while data := await reader.read(65_536):
            if is_answer and not self.answers.is_set():
                async with self._kept:
                    self.bytes_kept += len(data)
                    self._kept.notify_all()
                await self.answers.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@contextlib.asynccontextmanager
async def proxy_to(target: str) -> AsyncIterator[Proxy]:
    """A proxy on a free port."""
    proxy = Proxy(target)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.get_running_loop().create_task(proxy.on_connection(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
