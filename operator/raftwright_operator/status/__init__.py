"""The status of one RaftCluster and its events, from what was seen and decided: PURE.

`reconcile` writes what is returned here, on every path. Rule: whatever a person needs to know at night is in a
condition, with what to do about it; nothing is decided here.
"""

from raftwright_operator.status.document import patch_of, status_of
from raftwright_operator.status.events import Event, event_of, event_of_concern

__all__ = ["Event", "event_of", "event_of_concern", "patch_of", "status_of"]
