"""Metrics: plain numbers in, Prometheus text out."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from raftwright.server.metrics import Histogram, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_counters_gauges_and_routes() -> None:
    metrics = Metrics()
    metrics.fsyncs += 3
    metrics.term = 7
    metrics.add_route("put")[1] += 5
    assert metrics.add_route("put")[1] == 5
    found = samples(metrics)
    assert found["raftwright_fsyncs_total", ()] == 3
    assert found["raftwright_term", ()] == 7
    assert found["raftwright_http_requests_total", (("route", "put"), ("status", "2xx"))] == 5
    assert all(name.startswith("raftwright_") for name, _ in found)


def test_what_is_only_known_when_asked_for_is_asked_for() -> None:
    metrics = Metrics()

    def refresh() -> None:
        metrics.keys = 42

    metrics.before_collect.append(refresh)
    assert samples(metrics)["raftwright_keys", ()] == 42


@given(st.lists(st.floats(0, 10), max_size=50))
def test_a_histogram_counts_like_a_loop(values: list[float]) -> None:
    bounds = (0.5, 1.0, 5.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    expected = [float(sum(value <= bound for value in values)) for bound in (*bounds, math.inf)]
    assert [count for _, count in histogram.buckets()] == expected
    assert math.isclose(histogram.total, sum(values))


def test_a_histogram_takes_many_at_once() -> None:
    metrics = Metrics()
    metrics.commit_seconds.observe(0.003, times=10)
    found = samples(metrics)
    assert found["raftwright_commit_seconds_count", ()] == 10
    assert found["raftwright_commit_seconds_bucket", (("le", "0.005"),)] == 10
    assert found["raftwright_commit_seconds_bucket", (("le", "0.002"),)] == 0
