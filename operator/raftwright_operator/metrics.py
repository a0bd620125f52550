"""The operator's own figures, for Prometheus. `reconcile` counts; `__main__` serves them.

Rule: what is about one cluster goes when the cluster does. Names are `raftwright_operator_…`, units last.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from raftwright_operator.cache import Key

PREFIX = "raftwright_operator"
_CLUSTER = ("namespace", "cluster")


class OperatorMetrics:
    """In a registry of its own, so that a process may have several."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.reconciles = Counter(f"{PREFIX}_reconciles", "Steps of reconciliation.", ["result"], registry=registry)
        """By result: `action`, `wait`, `done`, `refused`, `error`."""
        self.duration = Histogram(
            f"{PREFIX}_reconcile_duration_seconds",
            "How long a step took.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=registry,
        )
        self.errors = Counter(
            f"{PREFIX}_reconcile_errors", "Steps that failed, by cause.", ["cause"], registry=registry
        )
        self.actions = Counter(
            f"{PREFIX}_actions", "Actions, and what became of them.", ["action", "outcome"], registry=registry
        )
        self.leading = Gauge(f"{PREFIX}_leading", "1 while this process is the active one.", registry=registry)
        gauges = {
            "voters": "Voters in the committed membership; 0 while that is not known.",
            "voters_wanted": "Voters asked for.",
            "pods_ready": "Pods that are ready.",
            "quorum_available": "1 while a leader is confirmed by a quorum.",
            "membership_in_sync": "1 while the membership is the one that is asked for.",
            "degraded": "1 while something needs a person's attention.",
        }
        self._of_cluster = {
            name: Gauge(f"{PREFIX}_cluster_{name}", text, _CLUSTER, registry=registry) for name, text in gauges.items()
        }

        self._known: set[Key] = set()

    def set_cluster(self, key: Key, **values: float) -> None:
        self._known.add(key)
        for name, value in values.items():
            self._of_cluster[name].labels(*key).set(value)

    def forget(self, key: Key) -> None:
        """The cluster is gone."""
        if key in self._known:
            self._known.remove(key)
            for gauge in self._of_cluster.values():
                gauge.remove(*key)
