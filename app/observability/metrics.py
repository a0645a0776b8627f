"""Our Prometheus metrics, in the default registry beside vLLM's.

Labels are bounded: routes are templates, models are those served.
"""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
NO_MODEL = ""

REQUESTS = Counter(
    "frontpage_requests_total",
    "HTTP requests. 499: the client left.",
    ["method", "route", "model", "status"],
)
LATENCY = Histogram(
    "frontpage_request_seconds",
    "Time to the end of the answer.",
    ["route", "model", "status"],
    buckets=SECONDS,
)
QUEUE = Histogram(
    "frontpage_queue_seconds",
    "Longest time that a story of a request waited before the engine's first step for it.",
    ["model"],
    buckets=(0.001, *SECONDS),
)
CANDIDATES = Histogram(
    "frontpage_rank_candidates",
    "Candidates of one /rank.",
    ["model"],
    buckets=(1, 5, 10, 25, 50, 100, 200, 300, 500, 1000),
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
PROBABILITY = Histogram(
    "frontpage_probability",
    "Calibrated probability of a click.",
    ["model"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1),
)
PENDING_REQUESTS = Gauge("frontpage_pending_requests", "Requests at work.")
PENDING_TOKENS = Gauge("frontpage_pending_tokens", "Prompt tokens to compute of these.")
MAX_PENDING_REQUESTS = Gauge("frontpage_pending_requests_limit", "Requests at work at most.")
MAX_PENDING_TOKENS = Gauge("frontpage_pending_tokens_limit", "Prompt tokens at work at most.")
REFUSED = Counter(
    "frontpage_refused_total",
    "Requests refused before work: requests, tokens, draining, rate_limit, authentication, scope,"
    " host.",
    ["reason"],
)
DEADLINES = Counter("frontpage_deadline_exceeded_total", "Requests ended by their deadline.")
ADAPTERS = Gauge(
    "frontpage_adapter_loaded", "1 for each adapter that is served.", ["model", "version"]
)
ADAPTER_LOADS = Counter(
    "frontpage_adapter_loads_total", "Loads of adapters: loaded, rejected.", ["outcome"]
)
for _outcome in ("loaded", "rejected"):  # from zero, so that the first one is an increase
    ADAPTER_LOADS.labels(_outcome)
for _reason in ("requests", "tokens", "draining", "rate_limit", "authentication", "scope", "host"):
    REFUSED.labels(_reason)
FEEDBACK = Counter(
    "frontpage_feedback_total", "Feedback by model and outcome.", ["model", "clicked"]
)
FEEDBACK_UNKNOWN = Counter(
    "frontpage_feedback_unknown_total", "Feedback for answers that are not, or no longer, kept."
)
FEEDBACK_DROPPED = Counter(
    "frontpage_feedback_dropped_total", "Answers not kept because the disk was too slow."
)
ENGINE_UP = Gauge("frontpage_engine_up", "1 while the engine answers.")
LOOP_LAG = Histogram(
    "frontpage_loop_lag_seconds",
    "How late the event loop runs a timer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)


def observe_request(method: str, route: str, model: str, status: int, seconds: float) -> None:
    REQUESTS.labels(method, route, model, str(status)).inc()
    LATENCY.labels(route, model, str(status)).observe(seconds)
