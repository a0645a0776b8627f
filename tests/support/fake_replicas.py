"""The deployment without a model, for tests of what is around it; and what replicas count."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from app.engine.fake import FakeEngine
from app.ray.replica import METRICS_PORT, deployment

service = deployment.bind(FakeEngine(latency_seconds=0.2))


def counted(name: str, **labels: str) -> list[float]:
    """A metric's sum in each replica of this machine, from the replicas' own ports."""
    found = []
    for port in range(METRICS_PORT, METRICS_PORT + 4):
        try:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.TransportError:
            continue
        samples = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        found.append(sum(samples))
    return found
