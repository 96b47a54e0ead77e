"""The numbers of a server, as Prometheus reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .journal import Record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a bare execution, a few milliseconds, to the most that one may take.
BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)


class Metrics:
    """Counts requests, and asks gauges when it is read. It shares no registry with anybody."""

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "sandbox_requests",
            "Requests answered, by operation and HTTP status.",
            ["operation", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "sandbox_request_seconds",
            "How long requests took, from their head to the end of the answer.",
            ["operation"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        for name, (text, value) in gauges.items():
            Gauge(name, text, registry=self._registry).set_function(value)

    def __call__(self, record: Record) -> None:
        """Take in a record."""
        self._requests.labels(record.operation, str(record.status)).inc()
        self._seconds.labels(record.operation).observe(record.seconds)

    def text(self) -> bytes:
        """Return all numbers in the text format of Prometheus."""
        return generate_latest(self._registry)
