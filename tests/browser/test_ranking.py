"""How a ranking is shown, when it is made anew, what it is compared with, on the fake engine."""

from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import Serve
from tests.support.rankers import MODEL
from tests.support.visits import visiting
from tests.support.waiting import HeldEngine

TIMES_USUAL = """async ([probability, usual]) => {
  const {timesUsual} = await import(new URL("page/usual.js", location));
  return timesUsual(probability, usual);
}"""


@pytest.mark.parametrize(
    ("probability", "usual", "words"),
    [
        (0.12, 0.0404, "three times a usual story (4 %)"),
        (0.082, 0.04, "twice a usual story (4 %)"),
        (0.6, 0.4, "one and a half times a usual story (40 %)"),
        (0.041, 0.04, "about a usual story (4 %)"),
        (0.02, 0.04, "half a usual story (4 %)"),
        (0.001, 0.04, "far below a usual story (4 %)"),
        (0.06, 0.005, "12 times a usual story (0.50 %)"),
        (0.0, 0.0, "about a usual story (0 %)"),
    ],
)
async def test_a_probability_in_words(
    browser: Browser, serve: Serve, probability: float, usual: float, words: str
) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        assert await visit.page.evaluate(TIMES_USUAL, [probability, usual]) == words


async def test_a_change_greys_the_ranking_until_it_is_made_anew(
    browser: Browser, serve: Serve
) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        page = visit.page
        results, hint = page.locator("#results"), page.locator("#stale")
        await visit.ranked_at_once()
        await expect(hint).to_be_hidden()
        await page.get_by_role("button", name="Remove: ").first.click()
        await expect(hint).to_contain_text("from before your change")
        await expect(results).to_have_class("stale")
        await expect(page.get_by_role("button", name="Sports fan", exact=True)).to_have_attribute(
            "aria-pressed", "false"
        )
        await visit.look("stale")
        await visit.rank()
        await expect(hint).to_be_hidden()
        await page.get_by_label("Compare with").select_option("smollm2-135m-instruct")
        await expect(hint).to_be_visible()
        await page.get_by_label("Compare with").select_option("")
        await expect(hint).to_be_hidden()  # again what was ranked
        await page.get_by_label("One title per line").fill("Cup final")
        await expect(results).to_have_class("stale")
        await page.get_by_role(
            "button", name="Home cook", exact=True
        ).click()  # ranks anew by itself
        await expect(page.locator(".ranked > li")).to_have_count(1)
        await expect(hint).to_be_hidden()


async def test_a_long_ranking_shows_progress_and_moves_no_button(
    browser: Browser, serve: Serve, engine: HeldEngine
) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        page, progress = visit.page, visit.page.locator("#progress")
        await visit.ranked_at_once()
        await expect(progress).to_be_empty()
        before = await place_of_the_button(page)
        await page.get_by_label("Compare with").select_option("smollm2-135m-instruct")
        engine.hold()
        await page.get_by_role("button", name="Rank", exact=True).click()
        await expect(progress).to_contain_text("Ranking 12 stories, 1 of 2 · 1 s")
        assert await place_of_the_button(page) == before
        await visit.look("progress")
        await page.get_by_role(
            "button", name="Home cook", exact=True
        ).click()  # asked for meanwhile
        engine.release()
        await expect(page.locator(".order label")).to_have_count(2)
        await expect(progress).to_be_empty()
        await expect(page.locator("#stale")).to_be_hidden()
        assert await place_of_the_button(page) == before


async def place_of_the_button(page: Page) -> Any:
    return await page.locator("#rank").bounding_box()


async def test_a_ranker_is_compared_with_its_language_model_alone(
    browser: Browser, serve: Serve, ranked: dict[str, Any]
) -> None:
    async with serve(**ranked) as url, visiting(browser, url) as visit:
        page, other = visit.page, visit.page.get_by_label("Compare with")
        await visit.ranked_at_once()
        names = await other.locator("option").all_text_contents()
        assert names[:3] == ["Nothing", MODEL, f"{MODEL}:text (language model alone)"]
        await other.select_option(f"{MODEL}:text")
        await visit.rank()
        labels = page.locator(".order label")
        await expect(labels).to_have_text([MODEL, f"{MODEL}:text"])
        for number in (0, 1):  # each has its own scale
            widths = await page.locator(f".measure.model-{number} .fill").evaluate_all(
                "all => all.map(e => parseFloat(e.style.width))"
            )
            assert max(widths) == 100
        figures = page.locator(".measure.model-1 .figures").first
        text = await figures.text_content() or ""
        assert text.startswith("#")  # the place before the percentage
        assert text.index("#") < text.index("%")
        await visit.look("text-alone")
