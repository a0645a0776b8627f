"""API keys: who may call what. Every path needs a key, but /health, /ready and the try-it page's
files, which hold nothing secret: a key is typed into the page.
"""

import hashlib
import hmac
import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import ClientError
from app.http.errors import Forbidden, ForeignHost, RateLimited, Unauthenticated, respond
from app.http.policy import policy_for
from app.observability import metrics
from app.security.hosts import check_host
from app.settings import ApiKey

REASONS: dict[type[ClientError], str] = {
    Unauthenticated: "authentication",
    Forbidden: "scope",
    RateLimited: "rate_limit",
    ForeignHost: "host",
}


class Security:
    """Answers 401, 403 and 429 before anything of a body is read. Without keys all is open, to
    requests for this machine's own names: a page that a browser shows could else have its name
    point at this machine (DNS rebinding) and call us as one of its own.

    Puts the ApiKey, or None where none is known, into `scope["state"]["key"]`, also of a request
    that it refuses. WebSockets are refused: there are none.
    """

    def __init__(self, app: ASGIApp, keys: tuple[ApiKey, ...]) -> None:
        self.app = app
        self.keys = keys
        self.limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        state = scope["state"]
        try:
            self._admit(scope)
        except (Unauthenticated, Forbidden, ForeignHost, RateLimited) as error:
            metrics.REFUSED.labels(REASONS[type(error)]).inc()
            return await respond(error, state["request_id"])(scope, receive, send)
        return await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        scope["state"]["key"] = None
        policy = policy_for(scope)
        if not self.keys:
            check_host(Headers(scope=scope).get("host", ""))
        if not self.keys or policy.scope is None:
            return
        key = self._authenticate(Headers(scope=scope).getlist("authorization"))
        scope["state"]["key"] = key
        if policy.scope not in key.scopes and "admin" not in key.scopes:
            raise Forbidden(f"this needs a key with the scope {policy.scope!r}")
        if policy.rate_limited:
            self._count(key)

    def _authenticate(self, sent: list[str]) -> ApiKey:
        """Exactly one header: of two, a proxy before us may have checked the other."""
        scheme, _, secret = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            raise Unauthenticated("an API key is needed, as `Authorization: Bearer KEY`")
        digest = hashlib.sha256(secret.strip().encode("latin-1")).hexdigest()
        found = None
        for key in self.keys:  # always all of them: the time does not tell which one it is
            if hmac.compare_digest(key.sha256, digest):
                found = key
        if found is None:
            raise Unauthenticated("this API key is not known")
        return found

    def _count(self, key: ApiKey) -> None:
        if key.requests_per_minute is None:
            return
        limit = RateLimitItemPerMinute(key.requests_per_minute)
        if self.limiter.hit(limit, key.sha256):
            return
        again = self.limiter.get_window_stats(limit, key.sha256).reset_time
        error = RateLimited(f"more than the {key.requests_per_minute} a minute that this key has")
        error.retry_after_s = max(1, math.ceil(again - time.time()))
        raise error
