"""What the metrics say of one ranking by the default model's ranker."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.servers import Service

MODEL = "news-smollm2"


def read(service: Service) -> dict[str, float]:
    """The ranker's series of the model, by name and further label."""
    text = httpx.get(f"{service.url}/metrics", timeout=60).raise_for_status().text
    return {
        " ".join(
            [sample.name, *(v for k, v in sample.labels.items() if k != "model")]
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("frontpage_ranker") and sample.labels["model"] == MODEL
    }


def test_a_ranking_is_counted(default_service: Service) -> None:
    before = read(default_service)
    stories = [f"Team {number} wins the cup" for number in range(40)]  # judged in a thread
    bodies = [
        {"history": ["Cup final goes to penalties"], "candidates": stories},
        {"candidates": ["Stocks fall", "Rain"]},
        {"candidates": ["Stocks fall", "Rain"], "ranker": False},  # counts nowhere here
    ]
    for body in bodies:
        httpx.post(f"{default_service.url}/rank", json=body, timeout=60).raise_for_status()
    after = read(default_service)
    counted = {name: after[name] - before.get(name, 0.0) for name in after}
    assert counted["frontpage_ranker_candidates_total"] == 42
    assert counted["frontpage_ranker_covered_total vectors"] == 42
    assert counted["frontpage_ranker_covered_total history"] == 40
    assert counted["frontpage_ranker_moved_count"] == 2
    assert 0 < counted["frontpage_ranker_moved_sum"] <= 1
    for step in ("gather", "wait", "judge"):
        assert counted[f"frontpage_ranker_seconds_count {step}"] == 2
        assert counted[f"frontpage_ranker_seconds_sum {step}"] > 0
