"""The documents as a site, in a browser."""

from pathlib import Path

from playwright.async_api import Browser, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from tests.support.docs_site import build
from tests.support.servers import serving
from tests.support.visits import PHONE, visiting


async def test_the_site_is_searched_and_read_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    assert build(tmp_path).returncode == 0
    app = Starlette(routes=[Mount("/", StaticFiles(directory=tmp_path))])
    async with serving(app) as url, visiting(browser, url, "/index.html") as visit:
        page = visit.page
        search = page.get_by_role("textbox", name="Search")
        await search.click()
        ready = page.locator(".md-search-result__meta")
        await expect(ready).to_have_text("Type to start searching")
        await search.press_sequentially("calibration")
        await expect(page.locator(".md-search-result__item").first).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("div.mermaid")).to_be_visible()  # before it is drawn, a `pre`
        await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        for name in ("index", "tutorial", "training", "operations/settings", "api"):
            await page.goto(f"{url}/{name}.html")
            await expect(page.locator("article h1")).to_be_visible()
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= PHONE[0], f"{name}: {wide} pixels wide"
