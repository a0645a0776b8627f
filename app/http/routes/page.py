"""The try-it page at `/` and its files: plain HTML, CSS and JavaScript, as they are on disk."""

import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

from app.errors import NotFound
from app.http.policy import WORK_PATHS

FOLDER = Path(__file__).parents[2] / "page"
START = "index.html"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, but asked for again: a new release is seen at once
}


class PageFiles(StaticFiles):
    """With an ETag by time and size, and HEADERS on each."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


router = APIRouter(include_in_schema=False)
files = PageFiles(directory=FOLDER)


@router.api_route("/", methods=["GET", "HEAD"])
async def start(request: Request) -> Response:
    return await files.get_response(START, request.scope)


@router.api_route("/page/work.js", methods=["GET", "HEAD"])
async def work_paths() -> Response:
    """Which routes the page's live figures count, from the table of paths."""
    script = f"export const WORK = new Set({json.dumps(WORK_PATHS)});\n"
    return Response(script, media_type="text/javascript", headers=HEADERS)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def file(name: str, request: Request) -> Response:
    """A file of the page. Its start is at `/` only: its links are relative to there."""
    if name == START:
        raise NotFound("the page is at the service's start")
    return await files.get_response(name, request.scope)
