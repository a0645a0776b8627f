"""Limits on the work in progress. Requests beyond them are refused before any work starts, so that
requests already accepted stay fast."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import EngineStarting, Overloaded
from app.observability import metrics


class Admission:
    """Counts the requests in progress and the prompt tokens that the engine computes for them.

    tokens: of requests that the engine has as a whole. large_tokens: of those it gets in slices.
    """

    def __init__(self, max_requests: int) -> None:
        self.max_requests = max_requests
        self.max_tokens = 0
        self.requests = 0
        self.tokens = 0
        self.large_tokens = 0
        self.draining = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        metrics.MAX_PENDING_REQUESTS.set(max_requests)

    def allow_tokens(self, max_tokens: int) -> None:
        """Set the token limit, whose default is known only once the engine has started."""
        self.max_tokens = max_tokens
        metrics.MAX_PENDING_TOKENS.set(max_tokens)

    @contextmanager
    def request(self, *, can_degrade: bool = False) -> Iterator[None]:
        """Count a request in progress; enter it before reading the body. can_degrade: it can be
        answered without the engine. Raises Overloaded."""
        if self.requests >= self.max_requests:
            refuse("requests", f"{self.requests} requests are in progress")
        if not can_degrade:
            self.check_draining()
            if self.max_tokens:
                self.check_tokens()
        self.requests += 1
        self.idle.clear()
        metrics.PENDING_REQUESTS.set(self.requests)
        try:
            yield
        finally:
            self.requests -= 1
            if not self.requests:
                self.idle.set()
            metrics.PENDING_REQUESTS.set(self.requests)

    @contextmanager
    def work(self, tokens: int) -> Iterator[None]:
        """Count a request's prompt tokens while the engine computes them.

        While the total is below the limit, any request is admitted, even one that then exceeds it:
        otherwise a large request would starve. Raises Overloaded.
        """
        self.check_tokens()
        with self.more_work(tokens):
            yield

    @contextmanager
    def more_work(self, tokens: int) -> Iterator[None]:
        """Count tokens of a request that has been admitted already."""
        self.tokens += tokens
        self._show_tokens()
        try:
            yield
        finally:
            self.tokens -= tokens
            self._show_tokens()

    @contextmanager
    def large_work(self, tokens: int) -> Iterator[None]:
        """Count a request whose prompts the engine gets in slices, one slice at a time.

        It is admitted as at `work`, but its tokens count against other large requests only: the
        small ones need not wait for them. Raises Overloaded.
        """
        self.check_tokens()
        if self.large_tokens >= self.max_tokens:
            refuse("tokens", f"{self.large_tokens} prompt tokens of large requests are in progress")
        self.large_tokens += tokens
        self._show_tokens()
        try:
            yield
        finally:
            self.large_tokens -= tokens
            self._show_tokens()

    def check_draining(self) -> None:
        """Raises Overloaded once the service is stopping."""
        if self.draining.is_set():
            refuse("draining", "the service is stopping; try another instance")

    @property
    def in_progress(self) -> int:
        """The tokens of all requests."""
        return self.tokens + self.large_tokens

    @property
    def load(self) -> float:
        """The tokens in progress, as a share of those that are allowed."""
        return self.in_progress / max(self.max_tokens, 1)

    def _show_tokens(self) -> None:
        metrics.PENDING_TOKENS.set(self.tokens + self.large_tokens)

    @property
    def is_full(self) -> bool:
        return self.tokens >= self.max_tokens

    def check_tokens(self) -> None:
        """Raises Overloaded while the engine has as much to do as is allowed, and EngineStarting
        before it is known how much that is."""
        if not self.max_tokens:
            raise EngineStarting("the language model is still being loaded")
        if self.is_full:
            refuse("tokens", f"{self.tokens} prompt tokens are in progress")


def refuse(reason: str, message: str) -> None:
    raise Overloaded(f"overloaded: {message}", reason)
