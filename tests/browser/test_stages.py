"""Marks of what the language model judged, on the fake engine with a small real ranker."""

from typing import Any

from playwright.async_api import Browser, expect

from app.engine.fake import FakeEngine
from tests.browser.conftest import SHORTLIST, Serve
from tests.support.rankers import MODEL, titles
from tests.support.visits import visiting

JUDGED, REST = SHORTLIST, 3
NOT_ANSWERED = "The language model did not answer."


async def test_each_story_says_whether_the_language_model_judged_it(
    browser: Browser, serve: Serve, ranked: dict[str, Any]
) -> None:
    async with serve(**ranked) as url, visiting(browser, url) as visit:
        page = visit.page
        await page.get_by_label("One title per line").fill("\n".join(titles(JUDGED + REST)))
        await visit.rank()
        stories = page.locator(".ranked > li")
        await expect(stories).to_have_count(JUDGED + REST)
        for place in range(JUDGED + REST):
            figures = stories.nth(place).locator(".figures")
            is_judged = place < JUDGED
            await expect(figures.get_by_text("language model")).to_have_count(int(is_judged))
            await expect(figures.get_by_text("signals only")).to_have_count(int(not is_judged))
        await expect(page.locator(".summary")).to_contain_text("Stories read4 of 7")
        await expect(page.locator(".legend")).to_contain_text("marked “signals only”")
        await expect(page.get_by_text(NOT_ANSWERED)).to_have_count(0)
        await visit.look("stages")


async def test_a_degraded_answer_says_so(
    browser: Browser, serve: Serve, ranked: dict[str, Any], engine: FakeEngine
) -> None:
    async with serve(**ranked) as url, visiting(browser, url) as visit:
        page, notice = visit.page, visit.page.locator(".notice.degraded")
        await page.get_by_label("One title per line").fill("\n".join(titles(JUDGED)))
        await visit.ranked_at_once()
        engine.dead = True
        await visit.rank()
        await expect(notice).to_contain_text(NOT_ANSWERED)
        await expect(page.get_by_role("status").first).to_contain_text(NOT_ANSWERED)
        await expect(page.locator(".ranked").get_by_text("signals only")).to_have_count(JUDGED)
        await expect(page.locator(".summary")).to_contain_text("Stories read0 of 4")
        await visit.look("degraded")
        await page.get_by_label("Compare with").select_option(MODEL)
        await visit.rank()
        await expect(notice).to_have_count(2)
        await expect(notice.last).to_contain_text(f"{MODEL} (2): {NOT_ANSWERED}")
        await visit.look("degraded-compared")
        engine.dead = False
        await page.get_by_label("Compare with").select_option("")
        await visit.rank()
        await expect(page.locator(".ranked").get_by_text("signals only")).to_have_count(0)
        await expect(notice).to_have_count(0)
        await expect(page.get_by_role("status").first).not_to_contain_text(NOT_ANSWERED)
