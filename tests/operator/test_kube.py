"""The client of Kubernetes' API against a real server: whatever text a person writes arrives as it was written."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftwright_operator.kube import Kube, KubeError, Object
from tests.operator.apiserver import ApiServer

TEXTS = {
    "emoji": "\U0001f600 and \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "accents": "é ß ŵ 語",
    "controls": "a\tb\nc\rd\x7fe\x80f\x85g\x9fh\x01",
    "line-ends": "a\u2028b\u2029c",
    "not-characters": "\ufeff\ufffe\uffff\U0010ffff",
    "looks-escaped": "\\ud83d\\ude00 \\u0041 \\n \"'",
    "looks-like-yaml": "a: [b, {c: d}] # e\n- *f",
}


@pytest.fixture
async def kube(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kube]:
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(api_server.kubeconfig))
    made = await Kube.connect()
    yield made
    await made.close()


@pytest.fixture
async def namespace(api_server: ApiServer) -> str:
    name = f"kube-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(api_server.create_namespace, name)
    return name


def config_map(namespace: str, name: str, text: str) -> Object:
    meta = {"name": name, "namespace": namespace, "annotations": {"text": text}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"text": text}}


@pytest.mark.parametrize("name", TEXTS)
async def test_text_of_any_kind_is_applied_created_and_patched_as_it_is(kube: Kube, namespace: str, name: str) -> None:
    text = TEXTS[name]
    await kube.apply(config_map(namespace, "applied", text))
    await kube.create(config_map(namespace, "created", text))
    await kube.create(config_map(namespace, "patched", ""))
    await kube.patch("ConfigMap", namespace, "patched", config_map(namespace, "patched", text))
    for each in ("applied", "created", "patched"):
        found = await kube.get("ConfigMap", namespace, each)
        assert found is not None
        assert (found["data"]["text"], found["metadata"]["annotations"]["text"]) == (text, text)


async def test_a_call_that_was_given_up_leaves_no_connection_behind(api_server: ApiServer, kube: Kube) -> None:
    """Though the server does not answer its end: it would be open until the loop has gone, and beyond."""
    before = sockets()
    await kube.list("ConfigMap", "default")
    with api_server.frozen():
        with pytest.raises(KubeError, match="did not answer"):
            await kube.list("ConfigMap", "default", timeout_s=0.3)
        assert sockets() > before
        await kube.close()
        assert sockets() == before


def sockets() -> set[str]:
    """Those that this process has open."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(each)
        except FileNotFoundError:  # that of the listing itself
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
