"""The API of Kubernetes as raw JSON: the one way that `observe`, `execute`, the cache and the Lease talk to it.

The generated models of `kubernetes` cost a process tens of MiB, so only its client, its settings and its watch's wire
format are used. Rule: each call ends by its time-out with an object or a `KubeError`, and nothing is tried again here.
"""

import asyncio
import json
import os
import random
import re
import socket
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from raftwright_operator.names import FIELD_MANAGER, GROUP, KIND, PLURAL, VERSION

TIMEOUT_S = 10.0
FORWARD_TIMEOUT_S = 30.0
WATCH_S = 300
"""How long the server keeps one watch open, about: each ends at a moment of its own."""
WATCH_SILENCE_S = 100.0
"""A server sends a bookmark about every minute: after so long without a word the connection is dead."""
CONNECTIONS_MAX = 256
CLOSE_TURNS_MAX = 100
"""Of the loop. A connection that was shut down needs a few until its transport has seen it."""

Object = dict[str, Any]
_NOT_ASCII = re.compile("[\x7f-\uffff]")

_PATHS: dict[str, tuple[str, str]] = {
    KIND: (f"/apis/{GROUP}/{VERSION}", PLURAL),
    "StatefulSet": ("/apis/apps/v1", "statefulsets"),
    "Pod": ("/api/v1", "pods"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "Service": ("/api/v1", "services"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "Event": ("/api/v1", "events"),
}


class KubeError(Exception):
    """A call that failed. `status` is that of HTTP; 0: no answer came, and whether it happened is unknown."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def is_gone(self) -> bool:
        """There is no such object."""
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """A precondition does not hold, or the object is there already. A patch that names another uid is refused as
        one that would change it (422)."""
        return self.status in (409, 412) or (self.status == 422 and "metadata.uid: Invalid value" in str(self))


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`kind`: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    kind: str
    object: Object


def is_in_cluster() -> bool:
    """Whether this process runs in a pod that was given the API's address."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


class Kube:
    """Open it with `connect`, close it with `close`. Safe to use from many tasks."""

    def __init__(self, api: ApiClient) -> None:
        """On a running loop. The API's connections are made here, so that `close` finds every one."""
        self._api = api
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._connector = aiohttp.TCPConnector(
            limit=CONNECTIONS_MAX, ssl=api.rest_client.ssl_context, socket_factory=self._new_socket
        )
        api.configuration.client_session_kwargs = {"connector": self._connector}
        self.reads = 0
        """GET requests so far, watches not counted."""

    @classmethod
    async def connect(cls) -> Self:
        """By the service account of the pod, or by the kubeconfig that kubectl would use."""
        configuration = Configuration()
        if is_in_cluster():
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            # Given here, since the client reads the variable once, when it is imported.
            file = os.environ.get("KUBECONFIG") or None
            await config.load_kube_config(file, client_configuration=configuration)  # type: ignore[no-untyped-call]
        api = ApiClient(configuration)
        api.user_agent = FIELD_MANAGER
        return cls(api)

    async def close(self) -> None:
        """Every connection is gone after it, also those of calls that were given up and whose end of TLS the server has
        not answered: aiohttp forgets these, and they would outlive the loop."""
        await self._api.close()  # type: ignore[no-untyped-call]
        await self._connector.close()
        for each in self._open_sockets():
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for _ in range(CLOSE_TURNS_MAX):
            if not self._open_sockets():
                break
            await asyncio.sleep(0)

    def _new_socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, type_, protocol, *_ = address
        made = socket.socket(family, type_, protocol)
        self._sockets.add(made)
        return made

    def _open_sockets(self) -> "list[socket.socket]":
        return [each for each in self._sockets if each.fileno() >= 0]

    # Reads

    async def get(self, kind: str, namespace: str, name: str, *, timeout_s: float = TIMEOUT_S) -> Object | None:
        """The object as it is now; None if there is none."""
        try:
            return await self.call("GET", path_of(kind, namespace, name), timeout_s=timeout_s)
        except KubeError as error:
            if error.is_gone:
                return None
            raise

    async def list(
        self, kind: str, namespace: str = "", *, selector: str = "", timeout_s: float = TIMEOUT_S
    ) -> tuple[list[Object], str]:
        """All objects as they are now, and the list's resourceVersion. An empty namespace: of all of them."""
        query = {"labelSelector": selector} if selector else {}
        answer = await self.call("GET", path_of(kind, namespace), query=query, timeout_s=timeout_s)
        return answer.get("items") or [], answer["metadata"]["resourceVersion"]

    async def watch(
        self, kind: str, namespace: str, resource_version: str, *, selector: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        """What happens after `resource_version`, until the server ends it. KubeError if it breaks or falls silent."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(random.randint(WATCH_S * 2 // 3, WATCH_S)),
        }
        if selector:
            query["labelSelector"] = selector
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=WATCH_SILENCE_S)
        response = await self._send("GET", path_of(kind, namespace), query, None, None, timeout)
        try:
            if response.status != 200:
                raise _error_of(response.status, await response.read())
            async for line in _lines(response):
                event = json.loads(line)
                yield WatchEvent(event["type"], event["object"])
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise KubeError(0, "Unreachable", f"the watch of {kind} broke: {error!r}") from None
        finally:
            response.close()

    # Writes

    async def apply(self, manifest: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> Object:
        """Server-side apply. A `metadata.resourceVersion` or `metadata.uid` in it is a precondition."""
        meta = manifest["metadata"]
        path = path_of(manifest["kind"], meta["namespace"], meta["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self.call(
            "PATCH", path, query=query, body=manifest, content_type="application/apply-patch+yaml", timeout_s=timeout_s
        )

    async def create(self, manifest: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> Object:
        """Conflict if it is there already."""
        path = path_of(manifest["kind"], manifest["metadata"]["namespace"])
        return await self.call("POST", path, query={"fieldManager": FIELD_MANAGER}, body=manifest, timeout_s=timeout_s)

    async def patch(
        self,
        kind: str,
        namespace: str,
        name: str,
        change: Mapping[str, Any],
        *,
        subresource: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> Object:
        """A merge patch. Where `metadata.uid` or `metadata.resourceVersion` is given, it is a precondition."""
        path = path_of(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return await self.call(
            "PATCH",
            path,
            query={"fieldManager": FIELD_MANAGER},
            body=change,
            content_type="application/merge-patch+json",
            timeout_s=timeout_s,
        )

    async def delete(self, kind: str, namespace: str, name: str, *, uid: str, propagation: str = "Background") -> None:
        """Conflict unless it has this uid; that it is gone already is no error."""
        options = {"preconditions": {"uid": uid}, "propagationPolicy": propagation}
        try:
            await self.call("DELETE", path_of(kind, namespace, name), body=options)
        except KubeError as error:
            if not error.is_gone:
                raise

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout_s: float = TIMEOUT_S,
    ) -> Object:
        """One request and its answer, decoded. KubeError for everything but success."""
        self.reads += method == "GET"
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        response = await self._send(method, path, query or {}, body, content_type, timeout)
        try:
            data = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(method, path, error) from None
        if not 200 <= response.status < 300:
            raise _error_of(response.status, data)
        decoded: Object = json.loads(data)
        return decoded

    async def forward(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """A request that is not of the API itself, as it is: its status, headers and body. aiohttp's errors."""
        timeout = aiohttp.ClientTimeout(total=FORWARD_TIMEOUT_S)
        async with await self._request(method, path, query, headers, body or None, timeout) as answer:
            return answer.status, answer.headers, await answer.read()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        content_type: str | None,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json"}
        if body is not None and content_type:
            headers["Content-Type"] = content_type
        data = None if body is None else encoded(body)
        try:
            return await self._request(method, path, query, headers, data, limits)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(method, path, error) from None

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        data: bytes | None,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        """With the client's own address, credentials and connections, but not its `request`: that encodes every body
        itself, as JSON with pairs of surrogates."""
        _, url, sent, _, _ = await self._api.param_serialize(
            method, path, query_params=list(query.items()), header_params=dict(headers), auth_settings=["BearerToken"]
        )
        rest = self._api.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()
        return await rest.pool_manager.request(
            method,
            url,
            data=data,
            headers=sent,
            timeout=limits,
            server_hostname=self._api.configuration.tls_server_name or None,
            proxy=rest.proxy or None,
            proxy_headers=rest.proxy_headers or None,
        )


def encoded(body: Any) -> bytes:
    """JSON that is YAML too, with the same meaning, since the API server reads what is applied as YAML.

    YAML knows no pairs of surrogates, so characters beyond 16 bits are written as they are; the others that are not
    ASCII are escaped, since YAML refuses some of them and takes others for ends of lines."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return _NOT_ASCII.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def path_of(kind: str, namespace: str = "", name: str = "") -> str:
    """Of an object, of a namespace's objects of a kind, or of all of them. KeyError for a kind that is not ours."""
    base, plural = _PATHS[kind]
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{base}{place}/{plural}" + (f"/{name}" if name else "")


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """What makes `old` into `new` as a merge patch (RFC 7396): maps merge, all else is replaced, None removes."""
    patch: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif before != value or key not in old:
            patch[key] = value
    return patch


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines, of any length."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        await asyncio.sleep(0)


def _unreachable(method: str, path: str, error: BaseException) -> KubeError:
    said = str(error) or type(error).__name__
    return KubeError(0, "Unreachable", f"the API server did not answer {method} {path}: {said}")


def _error_of(status: int, data: bytes) -> KubeError:
    try:
        said = json.loads(data)
        return KubeError(status, said.get("reason") or "", said.get("message") or f"HTTP status {status}")
    except (ValueError, AttributeError):
        return KubeError(status, "", f"HTTP status {status}")
