"""Under which names and for which pages the service answers."""

import logging
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.http.errors import ForeignHost
from app.http.middleware import ID_HEADER, TIMEOUT_HEADER
from app.settings import Settings

logger = logging.getLogger("frontpage")
THIS_MACHINE = "127.0.0.1"
OWN_NAMES = ("localhost", THIS_MACHINE, "::1")


def check_host(host: str) -> None:
    """host: the header. Raises ForeignHost; none at all is no browser's."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = host
    if host and name not in OWN_NAMES:
        raise ForeignHost(
            f"without API keys only {', '.join(OWN_NAMES)} are answered, not {host[:100]!r}:"
            " set FRONTPAGE_API_KEYS to serve under other names"
        )


def listening_host(settings: Settings) -> str:
    """Without keys only this machine may connect, whatever `host` says."""
    if settings.api_keys:
        return settings.host
    logger.warning(
        "no API keys: everyone on this machine may do everything, and others can't connect"
        " (listening on %s only); `python -m app.security NAME` makes a key",
        THIS_MACHINE,
    )
    return THIS_MACHINE


def allow_origins(app: FastAPI, origins: tuple[str, ...]) -> None:
    """Let pages of these origins call the service with a key of theirs; without any, no page can.

    To be added last, so outermost: a browser's preflight comes without a key.
    """
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=(
                *("authorization", "content-type", "traceparent", "tracestate"),
                *(ID_HEADER, TIMEOUT_HEADER),
            ),
            expose_headers=("retry-after", ID_HEADER),
        )
