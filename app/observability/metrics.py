"""Our Prometheus metrics, in the default registry together with vLLM's.

Labels have few values: routes are templates, and models are those served.
"""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
NO_MODEL = ""

REQUESTS = Counter(
    "frontpage_requests_total",
    "HTTP requests. Status 499 means that the client disconnected.",
    ["method", "route", "model", "status"],
)
LATENCY = Histogram(
    "frontpage_request_seconds",
    "Seconds until the end of the answer.",
    ["route", "model", "status"],
    buckets=SECONDS,
)
QUEUE = Histogram(
    "frontpage_queue_seconds",
    "Seconds until the engine's first step for the story of a request that waited longest.",
    ["model"],
    buckets=(0.001, *SECONDS),
)
CANDIDATES = Histogram(
    "frontpage_rank_candidates",
    "Candidates per request of /rank or /recommend.",
    ["model"],
    buckets=(1, 5, 10, 25, 50, 100, 200, 300, 500, 1000),
)
STORIES = Counter("frontpage_stories_scored_total", "Stories scored.", ["model"])
PROMPT_TOKENS = Counter("frontpage_prompt_tokens_total", "Prompt tokens scored.", ["model"])
CACHED_TOKENS = Counter(
    "frontpage_cached_tokens_total",
    "Prompt tokens scored that came from the prefix cache or from an equal story of the request.",
    ["model"],
)
LABEL_MASS = Histogram(
    "frontpage_label_mass",
    "Total probability of the two labels. Low if the model wanted to answer something else.",
    ["model"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1),
)
PROBABILITY = Histogram(
    "frontpage_probability",
    "Calibrated probability of a click.",
    ["model"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1),
)
PENDING_REQUESTS = Gauge("frontpage_pending_requests", "Requests in progress.")
PENDING_TOKENS = Gauge("frontpage_pending_tokens", "Prompt tokens in progress.")
MAX_PENDING_REQUESTS = Gauge(
    "frontpage_pending_requests_limit", "Limit on the requests in progress."
)
MAX_PENDING_TOKENS = Gauge(
    "frontpage_pending_tokens_limit", "Limit on the prompt tokens in progress."
)
REFUSED = Counter(
    "frontpage_refused_total",
    "Requests refused before any work, by reason: requests, tokens, draining, engine, rate_limit,"
    " authentication, scope, host.",
    ["reason"],
)
DEGRADED = Counter(
    "frontpage_degraded_total",
    "Requests answered without the language model, by reason: requests, tokens, draining, engine,"
    " starting, deadline.",
    ["model", "reason"],
)
SKIPPED = Counter(
    "frontpage_stories_skipped_total",
    "Stories that the language model was not asked about, by reason: shortlist, load, deadline, or"
    " degraded.",
    ["model", "reason"],
)
DEADLINES = Counter("frontpage_deadline_exceeded_total", "Requests that exceeded their deadline.")
ADAPTERS = Gauge(
    "frontpage_adapter_loaded", "1 for each adapter that is served.", ["model", "version"]
)
ADAPTER_LOADS = Counter(
    "frontpage_adapter_loads_total",
    "Attempts to load an adapter, by outcome: loaded, rejected.",
    ["outcome"],
)
for _outcome in ("loaded", "rejected"):  # start at zero, so that the first one is an increase
    ADAPTER_LOADS.labels(_outcome)
for _reason in (
    *("requests", "tokens", "draining", "engine"),
    *("rate_limit", "authentication", "scope", "host"),
):
    REFUSED.labels(_reason)
FEEDBACK = Counter(
    "frontpage_feedback_total", "Feedback recorded, by model and outcome.", ["model", "clicked"]
)
FEEDBACK_UNKNOWN = Counter(
    "frontpage_feedback_unknown_total", "Feedback for answers that are not or no longer kept."
)
FEEDBACK_DROPPED = Counter(
    "frontpage_feedback_dropped_total", "Answers not kept because the store failed or was too slow."
)
EVENTS = Counter(
    "frontpage_events_total",
    "Events sent by POST /events, by type (impression, click) and outcome (accepted, duplicate).",
    ["type", "outcome"],
)
for _kind in ("impression", "click"):
    for _outcome in ("accepted", "duplicate"):
        EVENTS.labels(_kind, _outcome)
LIVE_EVENTS = Counter(
    "frontpage_live_events_total",
    "Events of all instances that this one has read for its live figures, by type: impression,"
    " click.",
    ["type"],
)
for _kind in ("impression", "click"):
    LIVE_EVENTS.labels(_kind)
LIVE_STORIES = Gauge("frontpage_live_stories", "Stories that have live figures.")
LIVE_NEWEST = Gauge(
    "frontpage_live_newest_event_timestamp_seconds",
    "When the newest event in the live figures happened, in seconds since 1970.",
)
STORE_UP = Gauge("frontpage_store_up", "1 while the store can be written, else 0.")
STORE_UP.set(1)
STORE_FAILURES = Counter("frontpage_store_failures_total", "Failed attempts to read or write.")
STORE_READS_MISSED = Counter(
    "frontpage_store_reads_missed_total",
    "Requests answered without the reader's current history because the store was away.",
)
CATALOGUE = Gauge("frontpage_catalogue_stories", "Stories that /recommend can choose from.")
CATALOGUE_VECTORS = Gauge(
    "frontpage_catalogue_vectors", "Of these, those whose titles have been embedded."
)
RETRIEVAL_SECONDS = Histogram(
    "frontpage_retrieval_seconds",
    "Seconds until a /recommend has its candidates.",
    buckets=(0.001, 0.0025, *SECONDS),
)
RECOMMENDED = Counter(
    "frontpage_recommended_stories_total",
    "Stories that /recommend has answered with, by why they were candidates: similar, popular,"
    " new.",
    ["source"],
)
for _source in ("similar", "popular", "new"):
    RECOMMENDED.labels(_source)
TITLES = Counter(
    "frontpage_titles_total",
    "Titles whose vectors requests needed: known, stored or computed for them; left_out: what"
    " requests went on without.",
    ["source"],
)
RANKED = Counter(
    "frontpage_ranker_candidates_total", "Candidates that a ranker has judged.", ["model"]
)
COVERED = Counter(
    "frontpage_ranker_covered_total",
    "Of these, those of which something is known, by what: live (the story was shown before),"
    " history (the reader has clicked something), vectors (of their titles).",
    ["model", "known"],
)
RANKER_BROKEN = Gauge(
    "frontpage_ranker_broken",
    "1 for each model that is served by text alone because its ranker's files could not be read.",
    ["model"],
)
MOVED = Histogram(
    "frontpage_ranker_moved",
    "How far a ranker moves the language model's order: the mean change of rank in a ranking,"
    " divided by its number of candidates. 0: not at all, 0.33: like chance, 0.5: reversed.",
    ["model"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5),
)
RANKER_SECONDS = Histogram(
    "frontpage_ranker_seconds",
    "Seconds of a ranker's steps: gather (what is known, beside the engine), wait (for that, once"
    " the engine has answered), judge (features and trees).",
    ["model", "step"],
    buckets=(0.0005, 0.001, 0.0025, *SECONDS),
)
FEATURE_SHIFT = Gauge(
    "frontpage_feature_shift",
    "The mean of a feature over the last 10,000 candidates or so, less its mean in training, in"
    " standard deviations of training.",
    ["model", "feature"],
)
FEATURE_MISSING = Gauge(
    "frontpage_feature_missing_excess",
    "The share of the last 10,000 candidates or so without a feature, less that share in training.",
    ["model", "feature"],
)
STORE_WRITE = Histogram(
    "frontpage_store_write_seconds", "Seconds for one batch of writes.", buckets=SECONDS
)
ENGINE_UP = Gauge(
    "frontpage_engine_up", "1 while the language model answers, 0 while it loads or is away."
)
ENGINE_RESTARTS = Counter(
    "frontpage_engine_restarts_total",
    "Attempts to start the engine again, by why it was lost: died, hung.",
    ["reason"],
)
for _reason in ("died", "hung"):
    ENGINE_RESTARTS.labels(_reason)
ENGINE_START_SECONDS = Gauge(
    "frontpage_engine_start_seconds",
    "Seconds that the engine's last start took until the language model answered, from its loss on"
    " if it was a restart.",
)
LOOP_LAG = Histogram(
    "frontpage_loop_lag_seconds",
    "Seconds by which the event loop runs a timer late.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)


def observe_request(method: str, route: str, model: str, status: int, seconds: float) -> None:
    REQUESTS.labels(method, route, model, str(status)).inc()
    LATENCY.labels(route, model, str(status)).observe(seconds)


def observe_events(kind: str, accepted: int, sent: int) -> None:
    """Count events of one type."""
    EVENTS.labels(kind, "accepted").inc(accepted)
    EVENTS.labels(kind, "duplicate").inc(sent - accepted)
