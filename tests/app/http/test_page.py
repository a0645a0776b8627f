"""The page's files over HTTP: types, cache validators, the policy, no markup that it forbids."""

import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from app.engine.fake import FakeEngine
from app.http.routes.page import FOLDER
from app.main import create_app
from app.settings import Settings
from tests.support.servers import client_of

FILES = sorted(file.name for file in FOLDER.iterdir())
PAGES = ("/", "/page/experiments.html")
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": ("text/javascript", "application/javascript"),
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@pytest.mark.parametrize(
    "path", ["/", *(f"/page/{name}" for name in FILES if name != "index.html")]
)
async def test_each_file_has_type_policy_and_validator(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    suffix = Path(path).suffix or ".html"
    assert answer.headers["content-type"].split(";")[0] in TYPES[suffix]
    policy = dict(one.strip().split(" ", 1) for one in answer.headers[CSP].split(";"))
    assert policy == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    again = await client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == answer.headers["etag"]


CSP = "content-security-policy"


class Markup(HTMLParser):
    """What a page refers to, and what its policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.forbidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [value for name in ("href", "src") if (value := found.get(name))]
        self.ids += [value for value in [found.get("id")] if value]
        inline = tag == "style" or (tag == "script" and "src" not in found)
        if inline or any(name == "style" or name.startswith("on") for name in found):
            self.forbidden.append(self.get_starttag_text() or tag)


@pytest.mark.parametrize("root_path", ["", "/news/api"])
@pytest.mark.parametrize("path", PAGES)
async def test_links_hold_behind_a_proxys_prefix(
    settings: Settings, engine: FakeEngine, path: str, root_path: str
) -> None:
    """Every link of a page is relative and leads to something; nothing in it is inline."""
    async with client_of(create_app(settings, engine), root_path) as client:
        page = httpx.URL(f"http://localhost{root_path}{path}")
        markup = Markup()
        markup.feed((await client.get(page)).text)
        assert not markup.forbidden
        assert len(markup.links) > 5
        assert len(markup.ids) == len(set(markup.ids))
        for link in markup.links:
            assert not link.startswith(("/", "http:", "https:")), link
            target = page.join(link)
            assert target.path.startswith(f"{root_path}/")
            assert (await client.get(target)).status_code == 200, link
            if target.fragment:
                assert target.fragment in markup.ids


def test_scripts_write_no_markup_and_know_no_other_place() -> None:
    markup = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\("
    )
    for name in FILES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert not markup.search(text), name
        places = set(re.findall(r"https?://[^\s\"'<>]+", text))
        assert places <= {"http://www.w3.org/2000/svg"}, name


@pytest.mark.parametrize(
    "path", ["/page", "/page/", "/page/index.html", "/page/none.js", "/page/..%2fmain.py"]
)
async def test_there_is_nothing_else(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


async def test_the_documentation_keeps_its_own_needs(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    assert answer.status_code == 200
    assert CSP not in answer.headers
