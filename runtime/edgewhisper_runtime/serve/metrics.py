"""The server's metrics for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

# Seconds: from a short clip on a fast machine to an hour on a slow one, in factors of about 3.
_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "edgewhisper_requests",
            "Requests for a transcript, by HTTP status; 499: the client was gone before its end.",
            ["path", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "edgewhisper_request_seconds",
            "Time from a request's headers to the end of its answer, transcripts only.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.audio = Counter(
            "edgewhisper_audio_seconds",
            "Duration of what was transcribed.",
            registry=self.registry,
        )
        self.work = Counter(
            "edgewhisper_work_seconds",
            "Time that transcribing took, unfinished work included.",
            registry=self.registry,
        )
        self.problems = Counter(
            "edgewhisper_problems",
            "Transcripts that are empty or repeat themselves.",
            ["problem"],
            registry=self.registry,
        )
        self.uploads = Gauge("edgewhisper_uploads", "Uploads on their way.", registry=self.registry)
        self.queue = Gauge(
            "edgewhisper_queue_length",
            "Recordings that wait for the transcriber.",
            registry=self.registry,
        )
