"""Counts for the operator: numbers only, no ids, on a listener of their own."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


@dataclass(frozen=True, slots=True)
class Metrics:
    """The server's counters."""

    registry: CollectorRegistry
    requests: Counter
    problems: Counter
    sockets: Gauge
    sockets_closed: Counter
    delivered: Counter
    acts_per_commit: Histogram
    waiting_writes: Gauge


def create_metrics() -> Metrics:
    """Return counters that stand at zero."""
    registry = CollectorRegistry()
    return Metrics(
        registry=registry,
        requests=Counter("heliograph_requests", "HTTP requests", ["operation", "status"], registry=registry),
        problems=Counter("heliograph_problems", "Refusals", ["type"], registry=registry),
        sockets=Gauge("heliograph_sockets", "Open sockets", registry=registry),
        sockets_closed=Counter("heliograph_sockets_closed", "Sockets that ended", ["code"], registry=registry),
        delivered=Counter("heliograph_delivered", "Entries written to sockets", registry=registry),
        acts_per_commit=Histogram(
            "heliograph_acts_per_commit",
            "Writes that shared a commit",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=registry,
        ),
        waiting_writes=Gauge("heliograph_waiting_writes", "Writes that wait", registry=registry),
    )


def metrics_text(metrics: Metrics) -> bytes:
    """Return the counters in Prometheus' text format."""
    return generate_latest(metrics.registry)
