"""Fixtures that tests of several packages share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.operator.apiserver import PROGRAMS, ApiServer, require_programs

# How long an example takes is the machine's affair, and no test's.
settings.register_profile("raftwright", deadline=None)
settings.load_profile("raftwright")


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A real kube-apiserver, shared: each test makes a namespace of its own."""
    require_programs(*PROGRAMS)
    with ApiServer(tmp_path_factory.mktemp("apiserver")) as server:
        yield server
