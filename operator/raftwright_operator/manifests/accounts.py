"""The ServiceAccount of the pods: it has no rights, and its token is not mounted. Called by `build`."""

from raftwright_operator.manifests.metadata import Manifest, owned
from raftwright_operator.observed import Observed


def service_account(observed: Observed) -> Manifest:
    """Only for clusters that do not name one of their own."""
    return owned(observed, "v1", "ServiceAccount", observed.name, {"automountServiceAccountToken": False})
