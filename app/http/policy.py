"""The one table of paths: what each route needs and how it counts.

Middleware, keys, traces, metrics, the page and the API reference all read it. A route that is not
in it fails tests/app/http/test_policy.py.
"""

from dataclasses import dataclass
from typing import Literal

from starlette._utils import get_route_path  # what the router matches, without the root path
from starlette.types import Scope


@dataclass(frozen=True, slots=True)
class Policy:
    """scope: what a key must have, or None where no key is needed.

    work: a POST makes the engine compute. It is counted and limited by admission, has a deadline,
    and shows in the page's live figures. rate_limited: it counts against the key's requests a
    minute. traced: it gets a span.
    """

    scope: Literal["predict", "admin"] | None
    work: bool = False
    rate_limited: bool = False
    traced: bool = True


OPEN = Policy(None)
PREDICT = Policy("predict")
ADMIN = Policy("admin")
WORK = Policy("predict", work=True, rate_limited=True)

POLICIES = {
    "/predict": WORK,
    "/predict/batch": WORK,
    "/rank": WORK,
    "/v1/chat/completions": WORK,
    "/v1/completions": WORK,
    "/v1/models": Policy("predict", rate_limited=True),
    "/feedback": PREDICT,
    "/experiments": ADMIN,
    "/adapters": ADMIN,
    "/adapters/{name}": ADMIN,
    "/aliases": ADMIN,
    "/aliases/{alias}": ADMIN,
    # Asked for every few seconds, so without spans.
    "/health": Policy(None, traced=False),
    "/ready": Policy(None, traced=False),
    "/metrics": Policy("predict", traced=False),
    # The page's files hold nothing secret: a key is typed into the page.
    "/": OPEN,
    "/page/work.js": OPEN,
    "/page/{name}": OPEN,
    "/docs": PREDICT,
    "/docs/oauth2-redirect": PREDICT,
    "/redoc": PREDICT,
    "/openapi.json": PREDICT,
    "/static-offline-docs": PREDICT,
}
"""Route → its policy. A parameter stands for everything below it."""

WORK_PATHS = tuple(path for path, policy in POLICIES.items() if policy.work)


def policy_of(path: str) -> Policy:
    """path: as the router matches it."""
    if path in POLICIES:
        return POLICIES[path]
    for route, policy in POLICIES.items():
        above, parameter, _ = route.partition("{")
        if parameter and path.startswith(above):
            return policy
    return policy_of_unknown(path)


def policy_of_unknown(path: str) -> Policy:
    """For a path that no route has, read generously: what only looks like an administrator's path
    is guarded like one."""
    first = first_part(path)
    scope: Literal["predict", "admin"] = "admin" if first.startswith(ADMIN_PARTS) else "predict"
    return Policy(scope, rate_limited=first in RATE_LIMITED_PARTS)


def first_part(path: str) -> str:
    return next((part for part in path.split("/") if part), "").casefold()


ADMIN_PARTS = tuple({first_part(path) for path, policy in POLICIES.items() if policy is ADMIN})
RATE_LIMITED_PARTS = {first_part(path) for path, policy in POLICIES.items() if policy.rate_limited}


def policy_for(scope: Scope) -> Policy:
    """scope: of an HTTP request."""
    return policy_of(get_route_path(scope))


def is_work(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] == "POST" and policy_for(scope).work
