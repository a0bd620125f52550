"""The container images, as they are run: who they run as, what is in them, and that a node works alone and stops."""

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.image.support import Images, build, container, docker, done, require_docker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

USER = "65532:65532"
LOCKED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
START_S = 30.0
FORBIDDEN = ("gcc", "cc", "c++", "make", "ld", "pip", "pip3", "curl", "apt-add-repository")


@pytest.fixture(scope="module")
def images() -> Images:
    require_docker()
    return build()


def inspected(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done("image", "inspect", image))[0]["Config"]
    return found


def until(what: str, found: Callable[[], Any]) -> Any:
    """Ask until it says something true. A container's start is waited for: there is nothing to wait on but asking."""
    end = time.monotonic() + START_S
    while not (answer := found()):
        assert time.monotonic() < end, f"not within {START_S} s: {what}"
        time.sleep(0.1)
    return answer


def address_of(name: str) -> str:
    """Where port 7001 of the container is published."""
    return done("port", name, "7001/tcp").splitlines()[0]


def ask(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status 0 while nobody answers."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def status_of(address: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        status, body = ask(address, "GET", "/v1/status")
        return json.loads(body) if status == 200 else None

    said: dict[str, Any] = until("the node answers", found)
    return said


def test_images_say_what_they_are_and_run_as_nobody_in_particular(images: Images) -> None:
    for image in images:
        config = inspected(image)
        assert config["User"] == USER
        labels = config["Labels"]
        assert labels["org.opencontainers.image.licenses"] == "MIT"
        assert labels["org.opencontainers.image.title"] and labels["org.opencontainers.image.description"]
        version = done("run", "--rm", "--entrypoint", "raftwright", image, "--version")
        assert version == f"raftwright {labels['org.opencontainers.image.version']}"
        assert not [one for one in config["Env"] if one.startswith("RAFTWRIGHT_")], "nothing to contradict"
    config = inspected(images.node)
    assert config["Entrypoint"] == ["raftwright"]
    assert set(config["ExposedPorts"]) == {"7001/tcp", "8001/tcp"}
    assert set(config["Volumes"]) == {"/var/lib/raftwright"}
    assert config["Healthcheck"]["Test"][-1].endswith("health")


def test_nothing_that_builds_is_left_inside(images: Images) -> None:
    look = "; ".join(f"command -v {name}" for name in FORBIDDEN)
    for image in images:
        assert docker("run", "--rm", "--entrypoint", "sh", image, "-c", look).output == ""
        for module in ("pip", "setuptools", "hatchling"):
            ran = docker("run", "--rm", "--entrypoint", "python", image, "-c", f"import {module}")
            assert ran.status == 1 and "ModuleNotFoundError" in ran.output, (image, module)


def test_code_is_compiled_and_nothing_is_written_beside_it(images: Images) -> None:
    """A read-only root would otherwise have everything compiled anew at each start."""
    where = "import raftwright.server.node as m; print(m.__cached__, __import__('os').path.exists(m.__cached__))"
    for image in images:
        compiled = done("run", "--rm", "--read-only", "--entrypoint", "python", image, "-c", where)
        assert compiled.startswith("/opt/raftwright/") and compiled.endswith("True")


def test_a_node_alone_serves_keeps_its_data_and_stops_when_told(images: Images) -> None:
    with container(images.node, *LOCKED, "--publish", "127.0.0.1::7001") as name:
        address = address_of(name)
        until("it is ready", lambda: ask(address, "GET", "/readyz")[0] == 200)
        assert ask(address, "PUT", "/v1/kv/greeting", b"hello")[0] == 200
        assert ask(address, "GET", "/v1/kv/greeting") == (200, b"hello")
        assert done("exec", name, "raftwright", "health") == "127.0.0.1:7001 is alive"
        assert done("exec", name, "raftwright", "health", "--ready") == "127.0.0.1:7001 is ready"
        assert done("exec", name, "id", "-u") == "65532"
        began = time.monotonic()
        done("stop", "--time", "30", name)
        assert time.monotonic() - began < 8, "well before it is killed"
        assert done("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
        assert "has stopped" in docker("logs", name).output
        done("start", name)
        address = address_of(name)
        until("it is ready again", lambda: ask(address, "GET", "/readyz")[0] == 200)
        assert ask(address, "GET", "/v1/kv/greeting") == (200, b"hello")


def test_a_node_that_is_told_to_stop_before_it_runs_stops(images: Images, tmp_path: Path) -> None:
    """The first process of a container does not even hear a signal that it has no handler for."""
    (tmp_path / "slow.py").write_text("import time\nprint('importing')\ntime.sleep(300)\n")
    tmp_path.chmod(0o755)
    options = ("--volume", f"{tmp_path}:/opt/machines:ro", "--env", "PYTHONPATH=/opt/machines")
    arguments = ("node", "--name", "a", "--data-dir", "/var/lib/raftwright", "--state-machine", "slow:Machine")
    with container(images.node, *LOCKED, *options, arguments=arguments) as name:
        until("it starts", lambda: "importing" in docker("logs", name).output)
        began = time.monotonic()
        done("stop", "--time", "30", name)
        assert time.monotonic() - began < 8


def test_other_arguments_and_variables_start_from_nothing(images: Images) -> None:
    options = ("--env", "RAFTWRIGHT_NAME=db-0", "--env", "RAFTWRIGHT_CLIENT_LISTEN=0.0.0.0:7001")
    arguments = ("node", "--data-dir", "/var/lib/raftwright")
    with container(images.node, *LOCKED, "--publish", "127.0.0.1::7001", *options, arguments=arguments) as name:
        said = status_of(address_of(name))
        assert (said["name"], said["state"], said["id"]) == ("db-0", "waiting", None)
        assert ask(address_of(name), "GET", "/readyz")[0] == 503
        assert docker("exec", name, "raftwright", "health").status == 0, "it lives"
        assert docker("exec", name, "raftwright", "health", "--ready").status == 1
    with container(images.node, "--env", "RAFTWRIGHT_NAME=other", "--publish", "127.0.0.1::7001") as name:
        address = address_of(name)
        until("it serves", lambda: ask(address, "GET", "/readyz")[0] == 200)
        assert status_of(address)["name"] == "other", "a variable is stronger than the image's file"


def test_health_fails_where_no_node_is(images: Images) -> None:
    ran = docker("run", "--rm", images.node, "health")
    assert ran.status == 1 and "does not answer" in ran.output


def test_the_operator_starts(images: Images) -> None:
    ran = docker("run", "--rm", *LOCKED, images.operator, "--help")
    assert ran.status == 0, ran.output
    assert "leader-election" in ran.output
