"""What one may wait for of a RaftCluster.

Used by the tests, the report and the demo. Its one rule: every wait has a deadline, and says what it last saw.
"""

from e2e.kubectl import Object, until
from e2e.programs import ProgramError
from e2e.resource import Resource, is_ready

READY_S = 150.0
"""How long a cluster may take to become as asked for; it takes a fraction of this on an idle machine."""


class Raft(Resource):
    """A RaftCluster under test."""

    def await_condition(self, kind: str, status: str = "True", *, within_s: float = READY_S) -> Object:
        def found() -> Object | None:
            condition = self.condition(kind)
            return condition if condition.get("status") == status else None

        return until(f"{kind} is {status}", found, within_s=within_s, last_seen=self.describe)

    def await_settled(self, voters: int, non_voting: int = 0, *, within_s: float = READY_S) -> None:
        """Until it is Ready with exactly these members, each with a pod that is ready, and no work under way."""

        def found() -> bool:
            states = [self.condition(kind).get("status") for kind in ("Ready", "Progressing")]
            if states != ["True", "False"]:
                return False
            wanted = {f"{self.name}-{ordinal}": "voter" for ordinal in range(voters)}
            wanted |= {f"{self.name}-nonvoting-{ordinal}": "nonVoting" for ordinal in range(non_voting)}
            roles = {name: member["role"] for name, member in self.members().items()}
            return roles == wanted == {name: wanted.get(name) for name, pod in self.pods().items() if is_ready(pod)}

        what = f"{voters} voters and {non_voting} non-voting members are settled"
        until(what, found, within_s=within_s, last_seen=self.describe)

    def await_leader(self, *, other_than: str | None = None, within_s: float = READY_S) -> str:
        def found() -> str | None:
            leader: str | None = self.status().get("leader")
            return leader if leader != other_than else None

        return until(f"a leader other than {other_than}", found, within_s=within_s, last_seen=self.describe)

    def await_event(self, reason: str, *, within_s: float = 60.0) -> Object:
        def found() -> Object | None:
            return next(iter(self.kubectl.events(self.namespace, reason)), None)

        def seen() -> list[str]:
            return [f"{event['reason']}: {event.get('message')}" for event in self.kubectl.events(self.namespace)]

        return until(f"an event {reason}", found, within_s=within_s, last_seen=seen)

    # Of its parts

    def await_pods(self, count: int, *, within_s: float = 60.0) -> None:
        """Ready or not."""
        until(f"there are {count} pods", lambda: len(self.pods()) == count, within_s=within_s, last_seen=self.describe)

    def await_replaced(self, pod: str, uid: str, *, within_s: float = 60.0) -> None:
        """Until there is another pod of this name."""

        def replaced() -> bool:
            return self.pod_uids().get(pod, uid) != uid

        until(f"{pod} is another pod", replaced, within_s=within_s, last_seen=self.describe)

    def await_image(self, image: str, *, within_s: float = READY_S) -> None:
        """Until the node of each pod runs it."""

        def run_it() -> bool:
            pods = self.pods().values()
            return all(pod["spec"]["containers"][0]["image"] == image and is_ready(pod) for pod in pods)

        until(f"all pods run {image}", run_it, within_s=within_s, last_seen=self.describe)

    def await_claims(self, names: set[str], *, within_s: float = 60.0) -> None:
        until(
            f"the volumes are {sorted(names)}",
            lambda: set(self.claims()) == names,
            within_s=within_s,
            last_seen=lambda: sorted(self.claims()),
        )

    def await_member(self, name: str, *, other_than: int, within_s: float = READY_S) -> None:
        """Until a member of this name is another one, by its id."""

        def replaced() -> bool:
            return self.member_ids().get(name, other_than) != other_than

        until(f"{name} is another member", replaced, within_s=within_s, last_seen=self.describe)

    def await_member_ready(self, name: str, *, ready: bool, within_s: float = READY_S) -> None:
        """Until the status says of a member whether its pod is ready."""

        def said() -> bool:
            member = self.members().get(name)
            return member is not None and bool(member.get("ready")) == ready

        until(f"{name} is {'' if ready else 'not '}ready", said, within_s=within_s, last_seen=self.members)

    def await_node(self, pod: str, *, within_s: float = 60.0) -> Object:
        """The status of a pod's node, once it answers."""

        def answer() -> Object | None:
            try:
                return self.node_status(pod)
            except ProgramError:
                return None

        return until(f"the node of {pod} answers", answer, within_s=within_s, last_seen=self.describe)
