"""The one table of paths: which key each route needs, and how the service treats it.

Middleware, keys, traces, metrics, the page and the API reference all use it.
tests/app/http/test_policy.py fails for a route that is missing from it.
"""

from dataclasses import dataclass

from starlette._utils import get_route_path  # what the router matches, without the root path
from starlette.types import Scope

from app.http.paths import READER, STORY
from app.settings import KeyScope


@dataclass(frozen=True, slots=True)
class Policy:
    """How requests for one route are treated.

    scope: the scope that a key must have, or None if no key is needed. work: a POST makes the
    engine compute, so it is limited by admission, has a deadline, and counts in the page's live
    figures. degrades: it can be answered without the engine. rate_limited: requests count against
    the key's limit per minute. bulk: a body may hold thousands of stories or events. traced:
    requests get a span.
    """

    scope: KeyScope | None
    work: bool = False
    degrades: bool = False
    rate_limited: bool = False
    bulk: bool = False
    traced: bool = True


NO_KEY = Policy(None)
PREDICT = Policy("predict")
ADMIN = Policy("admin")
WORK = Policy("predict", work=True, rate_limited=True)
JUDGING = Policy("predict", work=True, degrades=True, rate_limited=True)
EVENTS = Policy("events", rate_limited=True)
BULK = Policy("events", rate_limited=True, bulk=True)

POLICIES = {
    "/predict": JUDGING,
    "/predict/batch": JUDGING,
    "/rank": JUDGING,
    "/recommend": JUDGING,
    "/v1/chat/completions": WORK,
    "/v1/completions": WORK,
    "/v1/models": Policy("predict", rate_limited=True),
    "/v1/models/{model:path}": Policy("predict", rate_limited=True),
    "/feedback": PREDICT,
    "/stories": BULK,
    STORY: EVENTS,
    "/events": BULK,
    READER: ADMIN,
    "/experiments": ADMIN,
    "/adapters": ADMIN,
    "/adapters/{name}": ADMIN,
    "/aliases": ADMIN,
    "/aliases/{alias}": ADMIN,
    # These are polled every few seconds, so they get no spans.
    "/health": Policy(None, traced=False),
    "/ready": Policy(None, traced=False),
    "/metrics": Policy("predict", traced=False),
    # The page's files hold nothing secret; users type their key into the page.
    "/": NO_KEY,
    "/page/work.js": NO_KEY,
    "/page/{name}": NO_KEY,
    "/docs": PREDICT,
    "/docs/oauth2-redirect": PREDICT,
    "/redoc": PREDICT,
    "/openapi.json": PREDICT,
    "/static-offline-docs": PREDICT,
}
"""Route → policy. A parameter matches everything below its path."""

WORK_PATHS = tuple(path for path, policy in POLICIES.items() if policy.work)


def policy_of(path: str) -> Policy:
    """The policy for a path. path: as the router matches it, without the root path."""
    if path in POLICIES:
        return POLICIES[path]
    for route, policy in POLICIES.items():
        above, parameter, _ = route.partition("{")
        if parameter and path.startswith(above):
            return policy
    return policy_of_unknown(path)


def policy_of_unknown(path: str) -> Policy:
    """The policy for a path without a route. It errs on the strict side: a path that resembles one
    that needs another scope needs it too."""
    first = first_part(path)
    found = (scope for part, scope in GUARDED_PARTS.items() if first.startswith(part))
    return Policy(next(found, "predict"), rate_limited=first in RATE_LIMITED_PARTS)


def first_part(path: str) -> str:
    return next((part for part in path.split("/") if part), "").casefold()


GUARDED_PARTS: dict[str, KeyScope] = {
    first_part(path): policy.scope
    for path, policy in POLICIES.items()
    if policy.scope is not None and policy.scope != "predict"
}
RATE_LIMITED_PARTS = {first_part(path) for path, policy in POLICIES.items() if policy.rate_limited}


def policy_for(scope: Scope) -> Policy:
    """The policy for a request. scope: ASGI's, of an HTTP request."""
    return policy_of(get_route_path(scope))


def is_work(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] == "POST" and policy_for(scope).work
