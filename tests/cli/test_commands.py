"""get, put, delete, list, import, export and status against a real node: results, exit statuses and messages."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio

from raftwright.cli.localcluster import LocalCluster
from tests.cli.support import Done
from tests.cli.support import raftwright as run
from tests.cluster.support import free_port, running_cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    async with running_cluster(tmp_path_factory.mktemp("cluster"), count=1) as running:
        yield running


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


async def raftwright(cluster: LocalCluster, *arguments: str, stdin: bytes = b"") -> Done:
    return await run(*arguments, stdin=stdin, RAFTWRIGHT_ENDPOINTS=cluster.endpoints[0])


async def test_a_value_goes_in_and_comes_out_to_the_byte(cluster: LocalCluster) -> None:
    value = bytes(range(256))
    put = await raftwright(cluster, "put", "../a key %2F 🦆", "-", stdin=value)
    assert put.status == 0 and int(put.text) > 0
    assert await raftwright(cluster, "get", "../a key %2F 🦆") == Done(0, value, "")


async def test_conditions_and_absent_keys_have_exit_status_1_and_say_why(cluster: LocalCluster) -> None:
    revision = (await raftwright(cluster, "put", "once", "1", "--if-absent")).text.strip()
    again = await raftwright(cluster, "put", "once", "2", "--if-absent")
    assert again.status == 1 and f"it is at revision {revision}. Nothing was changed." in again.err
    assert (await raftwright(cluster, "put", "once", "2", "--if-revision", revision)).status == 0
    for arguments in (("get", "nothing"), ("delete", "nothing")):
        missing = await raftwright(cluster, *arguments)
        assert (missing.status, missing.out) == (1, b"") and "there is no key 'nothing'" in missing.err
    assert (await raftwright(cluster, "delete", "once")).status == 0
    assert (await raftwright(cluster, "get", "once")).status == 1


async def test_what_is_wrong_has_exit_status_2_and_a_message_without_traceback(cluster: LocalCluster) -> None:
    for arguments in (
        ("put", "k" * 2000, "v"),
        ("get", ""),
        ("get", "a", "--endpoints", "nonsense"),
        ("import", "/nowhere/there.csv"),
        ("get", "a", "--data-dir", "/nowhere"),
        ("frobnicate",),
    ):
        wrong = await raftwright(cluster, *arguments)
        assert wrong.status == 2, wrong
        assert wrong.err and "Traceback" not in wrong.err


async def test_a_cluster_that_is_not_there_has_exit_status_3_and_says_what_to_do() -> None:
    away = await run("put", "a", "b", "--timeout", "1", "-e", f"127.0.0.1:{free_port(1)}")
    assert away.status == 3 and "cannot be reached" in away.err and "raftwright status" in away.err
    assert (await run("status", "-e", f"127.0.0.1:{free_port(1)}", "--timeout", "1")).status == 3


async def test_list_is_in_order_and_shows_nothing_that_a_terminal_obeys(cluster: LocalCluster) -> None:
    for key, value in (("l/b", b"two"), ("l/a", b"one\x1b[2J"), ("l/c", b"\xff\xfe"), ("m", b"")):
        await raftwright(cluster, "put", key, "-", stdin=value)
    listed = await raftwright(cluster, "list", "l/")
    assert listed.text.splitlines() == ["l/a\tone\\x1b[2J", "l/b\ttwo", "l/c\t(2 bytes that are no text)"]
    assert (await raftwright(cluster, "list", "l/", "--keys", "-n", "2")).text == "l/a\nl/b\n"
    rows = (await raftwright(cluster, "list", "l/", "--start", "l/c", "--json")).text.splitlines()
    assert [orjson.loads(row)["value"] for row in rows] == ["//4="]


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
async def test_what_is_exported_can_be_imported(cluster: LocalCluster, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source.ndjson"
    rows = [{"key": f"{kind}/{number:05}", "value": f'välue\r\n,"{number}'} for number in range(3000)]
    rows.append({"key": f"{kind}/raw", "value": "/w==", "encoding": "base64"})
    rows += [{"key": f"{kind}/last", "value": str(number)} for number in range(50)]
    source.write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    imported = await raftwright(cluster, "import", str(source))
    assert imported.status == 0 and "records imported" in imported.err
    first = tmp_path / f"first.{kind}"
    assert (await raftwright(cluster, "export", str(first), "--prefix", f"{kind}/")).status == 0
    again = await raftwright(cluster, "import", "-", "--format", kind, "--prefix", "x", stdin=first.read_bytes())
    assert again.status == 0, again.err
    second = await raftwright(cluster, "export", "-", "--format", kind, "--prefix", f"x{kind}/")
    assert second.text.replace(f"x{kind}/", f"{kind}/") == first.read_bytes().decode()
    assert second.text.count(f"{kind}/") == 3002
    assert (await raftwright(cluster, "get", f"{kind}/last")).out == b"49"


async def test_a_bad_line_stops_an_import_and_is_named(cluster: LocalCluster) -> None:
    stopped = await raftwright(cluster, "import", "-", stdin=b'{"key":"i","value":"1"}\nnonsense\n')
    assert stopped.status == 2 and "line 2: not JSON" in stopped.err and "safe to import the file again" in stopped.err


async def test_status_is_a_table_and_json(cluster: LocalCluster) -> None:
    table = await raftwright(cluster, "status")
    assert table.status == 0 and "node1" in table.text and "leader" in table.text
    [(endpoint, status)] = orjson.loads((await raftwright(cluster, "status", "--json")).out).items()
    assert (endpoint, status["role"]) == (cluster.endpoints[0], "leader")


async def test_help_teaches() -> None:
    for arguments in (["--help"], ["put", "--help"], ["local", "--help"], ["import", "--help"]):
        shown = await run(*arguments)
        assert shown.status == 0 and "raftwright" in shown.text.lower()
    node = await run("node", "--help")
    assert "--election-timeout-ms" in node.text and "default: 600 ms" in node.text
    wrong = await run("node", "--name", "a", "--data-dir", "/tmp/none", "--election-timeout-ms", "7")
    assert wrong.status == 2 and "election_timeout_ms" in wrong.err and "50" in wrong.err
