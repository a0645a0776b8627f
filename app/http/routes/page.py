"""The try-it page at `/` and its files: plain HTML, CSS and JavaScript, served as they are."""

import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

from app.errors import NotFound
from app.http.policy import WORK_PATHS

FOLDER = Path(__file__).parents[2] / "page"
START_PAGE = "index.html"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # browsers revalidate, so a new release shows at once
}


class PageFiles(StaticFiles):
    """Static files with HEADERS; Starlette derives their ETag from time and size."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


router = APIRouter(include_in_schema=False)
files = PageFiles(directory=FOLDER)


@router.get("/")
async def start(request: Request) -> Response:
    return await files.get_response(START_PAGE, request.scope)


@router.get("/page/work.js")
async def work_paths() -> Response:
    """A script with the routes that the page's live figures count, from the table of paths."""
    script = f"export const WORK = new Set({json.dumps(WORK_PATHS)});\n"
    return Response(script, media_type="text/javascript", headers=HEADERS)


@router.get("/page/{name}")
async def file(name: str, request: Request) -> Response:
    """A file of the page. The start page is served at `/` only, as its links are relative to it."""
    if name == START_PAGE:
        raise NotFound("the page is at /")
    return await files.get_response(name, request.scope)
