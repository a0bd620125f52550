"""Between two steps: whether another leads than the last step saw, which no object of Kubernetes tells by itself.

Called by `reconcile` every second or two. Rule: it asks one node, and never the API server; what it hears decides
nothing, but only that it is time to look.
"""

from raftwright_operator.nodes import Nodes, Place
from raftwright_operator.observe import Sight, cluster_places


class Pulse:
    """Of one cluster."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._places: list[Place] = []
        self._leader: int | None = None

    def saw(self, sight: Sight) -> None:
        """What the last step went by. The leader is asked last: the others know first that it is not any more."""
        seen = sight.observed
        self._leader = seen.membership.leader if seen.membership is not None else None
        self._places = cluster_places(seen, seen.nodes, sight.places)[::-1]

    async def has_new_leader(self) -> bool:
        """False where nobody says so: a step comes anyway, sooner or later."""
        if self._leader is None or len(self._places) < 2 or not self._nodes.are_near:
            return False
        for place in list(self._places):
            status = await self._nodes.status(place)
            if status is not None and status.leader is not None:
                return status.leader != self._leader
            # Who did not answer is asked after the others from now on.
            self._places.remove(place)
            self._places.append(place)
        return False
