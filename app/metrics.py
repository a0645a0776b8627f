"""Our Prometheus metrics, in the default registry beside vLLM's."""

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from app.recommender import Judged

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Counter(
    "frontpage_requests_total", "HTTP requests by route and status.", ["method", "route", "status"]
)
LATENCY = Histogram(
    "frontpage_request_seconds", "Time to the end of the answer.", ["route"], buckets=SECONDS
)
STORIES = Counter("frontpage_stories_scored_total", "Stories scored.", ["model"])
PROMPT_TOKENS = Counter("frontpage_prompt_tokens_total", "Prompt tokens of scores.", ["model"])
CACHED_TOKENS = Counter(
    "frontpage_cached_tokens_total", "Of these, tokens taken from the prefix cache.", ["model"]
)
LABEL_MASS = Histogram(
    "frontpage_label_mass",
    "Probability of both labels together; low where the model wants to say something else.",
    ["model"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1),
)


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    REQUESTS.labels(method, route, str(status)).inc()
    LATENCY.labels(route).observe(seconds)


def observe_answers(judged: "Judged") -> None:
    STORIES.labels(judged.model).inc(len(judged.answers))
    PROMPT_TOKENS.labels(judged.model).inc(judged.prompt_tokens)
    CACHED_TOKENS.labels(judged.model).inc(judged.cached_tokens)
    mass = LABEL_MASS.labels(judged.model)
    for answer in judged.answers:
        mass.observe(answer.label_mass)
