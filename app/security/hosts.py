"""The host names under which the service answers, and the pages that may call it."""

import logging
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.http.errors import ForeignHost
from app.http.middleware.context import ID_HEADER
from app.settings import Settings

logger = logging.getLogger("frontpage")
THIS_MACHINE = "127.0.0.1"
OWN_NAMES = ("localhost", THIS_MACHINE, "::1")


def check_host(host: str) -> None:
    """Raises ForeignHost if the header `host` does not name this machine. An empty one passes: only
    browsers need this protection, and they always send the header."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = host
    if host and name not in OWN_NAMES:
        raise ForeignHost(
            f"without API keys the service answers only as {', '.join(OWN_NAMES)}, not as"
            f" {host[:100]!r}: set FRONTPAGE_API_KEYS to serve under other names"
        )


def listening_host(settings: Settings) -> str:
    """The address to listen on. Without keys it is this machine's own, whatever `host` says."""
    if settings.api_keys:
        return settings.host
    logger.log(
        logging.INFO if settings.host in OWN_NAMES else logging.WARNING,
        "no API keys: anyone on this machine may do anything, and other machines can't connect"
        " (listening on %s only)",
        THIS_MACHINE,
    )
    return THIS_MACHINE


def allow_origins(app: FastAPI, origins: tuple[str, ...]) -> None:
    """Let pages of these origins call the service with their own key; without origins, none can.

    They may send any header: clients have their own (OpenAI's JavaScript SDK a dozen, such as
    `x-stainless-os`), and none gives a page rights that its key does not have. This middleware must
    be added last, as the outermost: a browser's preflight has no key.
    """
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
            allow_headers=("*",),
            expose_headers=("retry-after", ID_HEADER),
        )
