"""Visits of the page in Chromium, in which nothing may go wrong unseen."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, Request, expect

from tests.support.models import ROOT

CHROMIUM = ROOT / ".venv" / "bin" / "chromium"
AXE = ROOT / ".venv" / "share" / "axe.min.js"
SCREENSHOTS = ROOT / "runs" / "browser"
DESK, PHONE = (1440, 900), (360, 740)
VIEWS: dict[str, Any] = {
    "light": (DESK, "light"),
    "dark": (DESK, "dark"),
    "phone": (PHONE, "light"),
}
RULES: Any = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLORS: Any = {"type": "rule", "values": ["color-contrast"]}
"""All that the dark view changes."""
WAIT_MS = 300_000  # only ends a test that hangs


@dataclass
class Visit:
    """A page and what went wrong on it. `refusals`: statuses that the service is expected to
    answer with, which Chromium writes to the console."""

    page: Page
    origin: str
    refusals: frozenset[int]
    problems: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", self._note_request)
        self.page.on("requestfailed", self._note_failure)

    def _note_console(self, message: ConsoleMessage) -> None:
        expected = [f"responded with a status of {status} " for status in self.refusals]
        if not any(part in message.text for part in expected):
            self.problems.append(f"console {message.type}: {message.text}")

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith(f"{self.origin}/"):
            self.problems.append(f"request to another origin: {request.url}")

    def _note_failure(self, request: Request) -> None:
        """The live panel's last poll ends when the page is left."""
        if not (request.url.endswith("/metrics") and request.failure == "net::ERR_ABORTED"):
            self.problems.append(f"failed: {request.url}: {request.failure}")

    async def look(self, name: str) -> None:
        """A picture of this state in each view, none of them wider than its screen, and axe's
        findings, of which there may be none."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for view, ((width, height), scheme) in VIEWS.items():
            await self.page.set_viewport_size({"width": width, "height": height})
            await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            shot = SCREENSHOTS / f"{name}-{view}.png"
            await self.page.screenshot(path=shot, full_page=True)
            wide = await self.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name}, {view}: {wide} pixels wide"
            rules = COLORS if view == "dark" else RULES
            findings = await self.page.evaluate("rules => axe.run({runOnly: rules})", rules)
            assert findings["passes"], "axe did not look at anything"
            found = [
                f"{one['id']}: {one['help']}: {node['target']} {node['failureSummary']}"
                for one in findings["violations"]
                for node in one["nodes"]
            ]
            assert not found, f"{name}, {view}: {found}"
        await self.page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
        await self.page.emulate_media(color_scheme="light")

    async def ranked_at_once(self) -> None:
        """Until the page shows the ranking that it asks for when it is opened."""
        await expect(self.page.locator(".ranked")).to_be_visible()
        await expect(self.page.locator("#results")).to_have_attribute("aria-busy", "false")

    async def rank(self) -> None:
        await self.page.get_by_role("button", name="Rank", exact=True).click()
        await expect(self.page.get_by_role("button", name="Rank", exact=True)).to_be_enabled()

    async def enter_key(self, key: str) -> None:
        """Into the dialog, which is open."""
        await self.page.get_by_label("Key", exact=True).fill(key)
        await self.page.get_by_role("button", name="Use key").click()


@asynccontextmanager
async def visiting(
    browser: Browser,
    url: str,
    path: str = "/",
    refusals: frozenset[int] = frozenset(),
    locale: str = "en-US",
) -> AsyncIterator[Visit]:
    """A visit in a fresh profile. At its end nothing was written to the console, no request failed
    and none went elsewhere."""
    expect.set_options(timeout=WAIT_MS)
    context = await browser.new_context(
        viewport={"width": DESK[0], "height": DESK[1]}, locale=locale
    )
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await context.add_init_script(path=AXE)
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    visit = Visit(page, url, refusals)
    visit.watch()
    await page.goto(f"{url}{path}")
    try:
        yield visit
    finally:
        await context.close()
    assert not visit.problems, visit.problems
