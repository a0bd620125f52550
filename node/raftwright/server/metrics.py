"""What the node counts, in plain numbers, and how Prometheus reads them at `GET /metrics`.

Whoever does the work adds to a slot; the collector makes samples of the slots only when asked. Rule: no label ever
comes from input: labels are routes of the table and classes of status, fixed at the start, and ids of members.
"""

# ruff: noqa: RUF009  the functions that declare a metric make a dataclass field

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts of observations by upper bound, in seconds or in pieces."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def buckets(self) -> list[tuple[str, float]]:
        below = 0
        cumulative: list[tuple[str, float]] = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            cumulative.append(("+Inf" if bound == float("inf") else str(bound), below))
        return cumulative


def _counter(text: str) -> Any:
    return field(default=0, metadata={"kind": CounterMetricFamily, "help": text})


def _gauge(text: str) -> Any:
    return field(default=0, metadata={"kind": GaugeMetricFamily, "help": text})


def _histogram(text: str, bounds: Sequence[float]) -> Any:
    return field(default_factory=lambda: Histogram(bounds), metadata={"kind": HistogramMetricFamily, "help": text})


@dataclass(slots=True, eq=False)
class Metrics:
    """All numbers of a node. Counters only grow; gauges are set by whoever knows; both start at 0."""

    connections_accepted: int = _counter("Connections of clients taken.")
    connections_refused: int = _counter("Connections refused because there were too many.")
    requests_malformed: int = _counter("Connections closed because what they sent was not HTTP.")
    heads_too_slow: int = _counter("Connections closed because a request's head took too long.")
    bodies_too_slow: int = _counter("Requests given up because their body came too slowly.")
    responses_too_slow: int = _counter("Connections cut because a response was not read.")
    bodies_refused: int = _counter("Requests refused because too many bodies were on their way.")
    stream_frames: int = _counter("Frames received on clients' streams.")
    stream_replies: int = _counter("Frames sent on clients' streams.")
    streams_cut: int = _counter("Streams cut because all of them together held too much of frames in part.")
    stream_errors: int = _counter("Streams closed for breaking the protocol.")
    stream_commands: int = _counter("Commands received on clients' streams.")
    commands_proposed: int = _counter("Commands put into the log by this node as leader.")
    commands_applied: int = _counter("Commands applied to the state machine.")
    entries_applied: int = _counter("Log entries applied.")
    reads_linearizable: int = _counter("Reads answered after a round.")
    reads_lease: int = _counter("Reads answered by the leader within its lease, without a round.")
    reads_stale: int = _counter("Reads answered from what this node had applied.")
    read_rounds: int = _counter("Rounds of heartbeats that reads waited for, counted by the leader.")
    fsyncs: int = _counter("Syncs of the log.")
    fsynced_commands: int = _counter("Commands made durable by those syncs; divided by them, the commands a sync.")
    log_written_bytes: int = _counter("Bytes written to the log.")
    forwarded_commands: int = _counter("Commands passed on to the leader.")
    leader_changes: int = _counter("Times that this node saw another leader.")
    elections: int = _counter("Elections that this node began.")
    snapshots_taken: int = _counter("Snapshots written by this node.")
    snapshots_received: int = _counter("Snapshots received from a leader.")
    proposals_dropped: int = _counter("Proposals that were refused or overwritten.")
    peer_messages_sent: int = _counter("Messages sent to other members.")
    peer_messages_received: int = _counter("Messages received from other members.")
    peer_reconnects: int = _counter("Times that a stream to another member was set up anew.")

    state_checks_passed: int = _counter("Checks in which this node's state was that of the majority.")
    state_checks_failed: int = _counter("Checks in which it was another, or there was no majority.")
    state_checks_skipped: int = _counter("Checks that could not be made: they say nothing.")
    state_repairs: int = _counter("Times that this node's state was replaced by the leader's.")

    connections: int = _gauge("Connections of clients now open.")
    streams: int = _gauge("Streams of clients now open.")
    bodies_pending_bytes: int = _gauge("Bytes of bodies that have arrived in part.")
    term: int = _gauge("Current term.")
    is_leader: int = _gauge("1 on the leader, else 0.")
    has_leader: int = _gauge("1 if this node knows a leader, else 0.")
    is_ready: int = _gauge("1 if this node can serve a linearizable read, else 0.")
    commit_index: int = _gauge("Index of the newest entry known to be committed.")
    applied_index: int = _gauge("Index of the newest entry applied.")
    last_index: int = _gauge("Index of the newest entry in the log.")
    revision: int = _gauge("Revision of the store.")
    keys: int = _gauge("Keys in the store.")
    sessions: int = _gauge("Sessions remembered.")
    members: int = _gauge("Members of the cluster.")
    log_bytes: int = _gauge("Bytes of the log on disk.")
    log_cache_bytes: int = _gauge("Bytes of the log kept in memory.")
    snapshot_index: int = _gauge("Index of the newest snapshot.")
    snapshot_bytes: int = _gauge("Size of the newest snapshot.")
    snapshot_seconds: float = _gauge("How long the newest snapshot took.")
    pending_commands: int = _gauge("Commands waiting for a quorum.")
    pending_bytes: int = _gauge("Bytes of commands waiting for a quorum.")
    disk_is_full: int = _gauge("1 while client writes are refused for want of disk space.")

    voters_with_shorter_election_timeout: int = _gauge(
        "Voters whose election timeout is shorter than the leader's, or not known: the leader alone says."
    )
    state_is_wrong: int = _gauge("1 while this node's state is known not to be that of the majority.")
    state_alarm: int = _gauge("1 while voters' states differ without a majority.")
    state_check_index: int = _gauge("Index of the newest check passed.")

    commit_seconds: Histogram = _histogram(
        "From proposing to applying, once a round.",
        (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    )
    fsync_seconds: Histogram = _histogram(
        "How long a sync of the log took.",
        (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0),
    )
    commands_per_round: Histogram = _histogram(
        "Commands that shared one sync.", (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)
    )

    before_collect: list[Callable[[], None]] = field(default_factory=list)
    """Called before the numbers are read, to set those that are only looked up."""
    members_in_minority: Iterable[int] = ()
    """Ids of the members whose state is not that of the majority."""
    by_route: dict[str, list[int]] = field(default_factory=dict)
    """Requests answered, by route and class of status."""

    def add_route(self, label: str) -> list[int]:
        """The counts of a route, by `status // 100 - 1`: the dispatcher adds to it directly."""
        return self.by_route.setdefault(label, [0] * len(STATUS_CLASSES))

    def collect(self) -> Iterator[Metric]:
        for declared in fields(self):
            family = declared.metadata.get("kind")
            name, value = f"raftwright_{declared.name}", getattr(self, declared.name)
            if family is HistogramMetricFamily:
                text = declared.metadata["help"]
                yield HistogramMetricFamily(name, text, buckets=value.buckets(), sum_value=value.total)
            elif family is not None:
                yield family(name, declared.metadata["help"], value=value)
        requests = CounterMetricFamily("raftwright_http_requests", "Requests answered.", labels=("route", "status"))
        for route, counts in self.by_route.items():
            for status_class, count in zip(STATUS_CLASSES, counts, strict=True):
                if count:
                    requests.add_metric((route, status_class), count)
        yield requests
        wrong = GaugeMetricFamily(
            "raftwright_member_state_is_wrong",
            "1 for each member whose state is not that of the majority, as far as this node was told.",
            labels=("member",),
        )
        for member in self.members_in_minority:
            wrong.add_metric((str(member),), 1)
        yield wrong

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes, of type `CONTENT_TYPE`."""
        for refresh in self.before_collect:
            refresh()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)
