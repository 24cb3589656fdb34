"""What a service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one service.

    Args:
        waiting: how many requests wait for a thread.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "medseg_requests", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "medseg_request_seconds", "From a request's head to the end of its answer", ["route"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "medseg_requests_in_flight", "Requests not yet answered", registry=self.registry
        )
        self.batch_size = Histogram(
            "medseg_batch_size", "Images computed in one call of a model", buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )  # fmt: skip
        queue = Gauge("medseg_queue_length", "Requests that wait", registry=self.registry)
        queue.set_function(waiting)

    def text(self) -> bytes:
        """All counters in Prometheus' text format."""
        return generate_latest(self.registry)
