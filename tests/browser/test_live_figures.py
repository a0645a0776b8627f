"""The live panel's arithmetic in Chromium, against Python's on the same text."""

import math
import random
from typing import Any

from playwright.async_api import Browser
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.observability.metrics import SECONDS
from tests.browser.conftest import Serve
from tests.support.visits import visiting

SUMMARY = """async ([before, after]) => {
  const {readSnapshot, summarize} = await import(new URL("page/live.js", location));
  const figures = summarize([readSnapshot(before, 0), readSnapshot(after, 60000)]);
  return Object.fromEntries(Object.entries(figures).map(([k, v]) => [k, String(v)]));
}"""
QUANTILE = """async ([q, buckets]) => {
  const {quantile} = await import(new URL("page/prometheus.js", location));
  return String(quantile(q, new Map(buckets.map(([le, n]) => [le ?? Infinity, n]))));
}"""


class Figures:
    """Metrics of the service's names and labels, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kept: dict[str, Any] = {"registry": self.registry}
        labels = ["route", "model", "status"]
        self.requests = Counter("frontpage_requests_total", "n", ["method", *labels], **kept)
        self.seconds = Histogram("frontpage_request_seconds", "s", labels, buckets=SECONDS, **kept)
        self.pending = Gauge("frontpage_pending_requests", "n", **kept)
        self.waiting = Gauge("vllm:num_requests_waiting", "n", ["engine"], **kept)
        self.queries = Counter("vllm:prefix_cache_queries", "n", ["engine"], **kept)
        self.hits = Counter("vllm:prefix_cache_hits", "n", ["engine"], **kept)

    def answer(self, route: str, model: str, seconds: float, status: str = "200") -> None:
        self.requests.labels("POST", route, model, status).inc()
        self.seconds.labels(route, model, status).observe(seconds)

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()


def quantile(q: float, seconds: list[float], bounds: tuple[float, ...]) -> float:
    """What Prometheus's histogram_quantile says of these observations."""
    if not seconds:
        return math.nan
    rank, below, start = q * len(seconds), 0, 0.0
    for bound in bounds:
        inside = sum(start < s <= bound for s in seconds)
        if inside and below + inside >= rank:
            return start + (bound - start) * (rank - below) / inside
        below, start = below + inside, bound
    return bounds[-1]


async def test_figures_of_the_last_minute_are_pythons(browser: Browser, serve: Serve) -> None:
    made = random.Random(7)
    routes = ("/predict", "/rank", "/v1/chat/completions")
    async with serve() as url, visiting(browser, url) as visit:
        for size in (0, 1, 2, 37, 500):
            figures = Figures()
            for _ in range(50):  # before the window
                figures.answer(made.choice(routes), "a", made.expovariate(1))
            figures.queries.labels("0").inc(1000)
            figures.hits.labels("0").inc(10)
            before, seconds = figures.text, [made.expovariate(2) for _ in range(size)]
            for one in seconds:
                figures.answer(made.choice(routes), made.choice('a"b}c,d="'), one)
            figures.answer("/metrics", "", 20)
            figures.answer("/rank", "a", 20, "503")
            figures.queries.labels("0").inc(800)
            figures.hits.labels("0").inc(600)
            figures.pending.set(3)
            figures.waiting.labels("0").set(5)
            found = await visit.page.evaluate(SUMMARY, [before, figures.text])
            assert int(found["requests"]) == size + 1
            assert int(found["sinceStart"]) == size + 51
            assert (found["atWork"], found["waiting"], found["hitRate"]) == ("3", "5", "0.75")
            for q, name in ((0.5, "p50"), (0.95, "p95")):
                wanted = quantile(q, seconds, tuple(float(bound) for bound in SECONDS))
                assert math.isclose(float(found[name]), wanted, rel_tol=1e-9) or (
                    math.isnan(wanted) and found[name] == "NaN"
                ), (size, name, found[name], wanted)


async def test_the_ends_of_a_histogram(browser: Browser, serve: Serve) -> None:
    """In the last bucket its lower bound; none without observations; None stands for +Inf."""
    cases: list[tuple[float, list[tuple[float | None, int]], str]] = [
        (0.5, [(1, 0), (2, 0), (None, 4)], "2"),
        (0.5, [(1, 0), (None, 0)], "NaN"),
        (0.5, [], "NaN"),
        (1.0, [(1, 2), (2, 4), (None, 4)], "2"),
        (0.25, [(None, 4), (2, 4), (1, 2)], "0.5"),
    ]
    async with serve() as url, visiting(browser, url) as visit:
        for q, buckets, wanted in cases:
            assert await visit.page.evaluate(QUANTILE, [q, buckets]) == wanted
