"""One's own stories, two readers beside each other, links, and what was ranked in a tab."""

import json
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import Serve
from tests.support.visits import Visit, visiting

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/"><channel><title>The Paper</title>
<image><title>No story</title></image>
<item><title>Cup final &amp; penalties</title><category>Sports</category></item>
<item><title><![CDATA[<img src=x onerror=alert(1)> | a bar]]></title></item>
<item><media:content/><title>  Two
lines </title><category>A | B</category><category>Other</category></item>
<item><description>No title</description></item>
</channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>Feed</title>
<entry><title>Shares slide</title><category term="finance"/></entry></feed>"""
CSV = 'id,Title,Section\r\n1,"Storm, then sun",weather\r\n2,"He said ""no""",\r\n3,,news\r\n'
READ = """async (text) => {
  const {readPasted} = await import(new URL("page/paste.js", location));
  try { return readPasted(text)?.stories ?? null; } catch (error) { return error.message; }
}"""
LINK = """async (state) => {
  const {toLink, fromFragment} = await import(new URL("page/link.js", location));
  const link = new URL(await toLink(state));
  return [link.hash, await fromFragment(link.hash)];
}"""
EMPTY: dict[str, Any] = {
    "reader": {"history": [], "liked": [], "disliked": []},
    "stories": "",
    "model": "",
    "other": "",
}


async def paste(visit: Visit, text: str) -> None:
    await visit.page.evaluate("text => navigator.clipboard.writeText(text)", text)
    await visit.page.get_by_label("One title per line").focus()
    await visit.page.keyboard.press("Control+V")


def forget_the_parsers_style(visit: Visit) -> None:
    """Chromium's own report on XML that is not well-formed has a style, which the policy blocks."""
    assert visit.problems
    assert all("Applying inline style violates" in problem for problem in visit.problems)
    visit.problems.clear()


async def test_feeds_and_tables_become_lines(browser: Browser, serve: Serve) -> None:
    cases: list[tuple[str, Any]] = [
        (
            RSS,
            [
                "Sports | Cup final & penalties",
                "<img src=x onerror=alert(1)> / a bar",
                "A / B | Two lines",
            ],
        ),
        (ATOM, ["finance | Shares slide"]),
        (CSV, ["weather | Storm, then sun", 'He said "no"']),
        ("headline;topic\nRain;weather", ["weather | Rain"]),
        ("category\ttitle\nnews\tOne\n", ["news | One"]),
        ("title\nOne\nTwo", None),  # a list, whose first line happens to be that
        ("Storm, then sun\nRain", None),
        ("<b>bold</b> words", None),
        ("", None),
        ("title,section\n" + "a,b\n" * 1200, ["b | a"] * 1000),
        (RSS[:-30], "This looks like a feed but is not well-formed XML. Is the text complete?"),
        ("<rss><channel/></rss>", "The feed holds no story with a title."),
        ('title,section\n"open,b\n', "Row 2 of the table has a stray or open quote."),
    ]
    async with serve() as url, visiting(browser, url) as visit:
        for text, wanted in cases:
            assert await visit.page.evaluate(READ, text) == wanted, text[:60]
        forget_the_parsers_style(visit)


async def test_a_pasted_feed_is_ranked_and_stays_text(browser: Browser, serve: Serve) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        page, said = visit.page, visit.page.locator("#pasted")
        page.on("dialog", lambda dialog: visit.problems.append(f"alert: {dialog.message}"))
        await visit.ranked_at_once()
        await paste(visit, RSS)
        await expect(said).to_have_text("3 stories read from the feed.")
        await expect(page.locator("#results")).to_have_class("stale")
        await visit.rank()
        await expect(page.locator(".ranked > li")).to_have_count(3)
        await expect(page.locator(".ranked")).to_contain_text("<img src=x onerror=alert(1)>")
        await expect(page.locator("main img")).to_have_count(0)
        await visit.look("pasted")
        await paste(visit, RSS[:-30])
        await expect(said).to_contain_text("not well-formed XML")
        await visit.look("pasted-wrong")
        forget_the_parsers_style(visit)
        await page.get_by_role("button", name="Clear").click()
        await expect(said).to_be_hidden()
        await paste(visit, "One title, as it is\nAnother")
        await expect(page.get_by_label("One title per line")).to_have_value(
            "One title, as it is\nAnother"
        )


async def test_two_readers_side_by_side(browser: Browser, serve: Serve) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        page = visit.page
        await visit.ranked_at_once()
        await page.get_by_label("Compare with").select_option("Investor")
        async with page.expect_response("**/rank") as waiting:
            await page.get_by_role("button", name="Rank", exact=True).click()
        first: Any = (await waiting.value).request.post_data_json
        async with page.expect_response("**/rank") as waiting:
            pass
        second: Any = (await waiting.value).request.post_data_json
        await expect(page.locator(".order label")).to_have_text(["Sports fan", "Investor"])
        assert first["candidates"] == second["candidates"]
        assert first["history"][0]["title"].startswith("Harbor City")
        assert second["history"][0]["title"].startswith("Chip maker")
        for number, body in enumerate((first, second)):
            async with httpx.AsyncClient() as client:
                answer = (await client.post(f"{url}/rank", json=body)).json()
            ranks = {one["index"]: one["rank"] for one in answer["results"]}
            moves = page.locator(f".measure.model-{number} .move")
            texts = [text.split()[0] for text in await moves.all_text_contents()]
            if number == 0:
                order = [one["index"] for one in answer["results"]]
            assert texts == [f"#{ranks[index]}" for index in order]
        await visit.look("two-readers")
        await page.get_by_role("button", name="Remove: ").first.click()
        await visit.rank()
        await expect(page.locator(".order label")).to_have_text(["This reader", "Investor"])


async def test_a_link_holds_what_the_page_is_set_to(browser: Browser, serve: Serve) -> None:
    async with serve() as url:
        async with visiting(browser, url) as visit:
            page = visit.page
            await visit.ranked_at_once()
            await page.get_by_role("button", name="Home cook", exact=True).click()
            await page.get_by_text("Reader id", exact=True).click()
            await page.get_by_label("Optional").fill("secret-reader")
            await page.get_by_label("One title per line").fill(
                "food | Soupe à l’oignon ☀\nTitle two"
            )
            await page.get_by_label("Compare with").select_option("Investor")
            await page.get_by_role("button", name="Copy a link to this").click()
            await expect(page.locator("#link")).to_have_text("Copied")
            link = await page.evaluate("navigator.clipboard.readText()")
            assert link == page.url
            await visit.look("link")
        async with visiting(browser, url, link.removeprefix(url)) as visit:
            page = visit.page
            await visit.ranked_at_once()
            await expect(page.locator(".order label")).to_have_text(["Home cook", "Investor"])
            await expect(page.get_by_label("One title per line")).to_have_value(
                "food | Soupe à l’oignon ☀\nTitle two"
            )
            await expect(page.get_by_label("Optional")).to_have_value("")
            await expect(
                page.get_by_role("button", name="Home cook", exact=True)
            ).to_have_attribute("aria-pressed", "true")
            # Another link in the same tab.
            state = {**EMPTY, "stories": "<b>Rain</b>", "model": "gone"}
            fragment, found = await page.evaluate(LINK, state)
            assert found == state
            await page.evaluate("hash => { location.hash = hash; }", fragment)
            await expect(page.locator(".ranked > li")).to_have_count(1)
            await expect(page.locator(".ranked")).to_contain_text("<b>Rain</b>")
            await expect(page.get_by_text("None", exact=True)).to_have_count(3)


@pytest.mark.parametrize("fragment", ["#set=", "#set=%%%", "#set=AAAA", "#set=q1YqSk1MKUpVsgIA"])
async def test_a_damaged_link_says_so(browser: Browser, serve: Serve, fragment: str) -> None:
    async with serve() as url, visiting(browser, url, f"/{fragment}") as visit:
        await expect(visit.page.locator("#pasted")).to_contain_text("This link is damaged")
        await visit.ranked_at_once()
        await expect(visit.page.locator(".ranked > li")).to_have_count(12)


@pytest.mark.parametrize(
    "change",
    [
        {"reader": {"history": [1], "liked": [], "disliked": []}},
        {"reader": {"history": []}},
        {"stories": ["a"]},
        {"model": None},
        {"reader": {"history": ["a"] * 1001, "liked": [], "disliked": []}},
        {"stories": "a" * 5_000_000},
    ],
    ids=["number", "missing", "list", "null", "many", "huge"],
)
async def test_what_is_no_state_is_refused(
    browser: Browser, serve: Serve, change: dict[str, Any]
) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        tried = """async (state) => {
          const {toLink, fromFragment} = await import(new URL("page/link.js", location));
          return toLink(state).then(link => fromFragment(new URL(link).hash)).then(
            () => "taken", error => error.message);
        }"""
        found = await visit.page.evaluate(tried, {**EMPTY, **change})
        assert "damaged" in found or "too large" in found
        assert await visit.page.evaluate(tried, EMPTY) == "taken"


async def test_what_was_ranked_in_the_tab_can_be_opened_again(
    browser: Browser, serve: Serve
) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        page, rows = visit.page, visit.page.locator("#tab-list li")
        await visit.ranked_at_once()
        await expect(rows).to_have_count(1)
        await page.get_by_label("One title per line").fill("<i>Rain</i>\nSun")
        await visit.rank()
        await visit.rank()  # the same once more
        await expect(rows).to_have_count(2)
        await expect(rows.first).to_contain_text("Sports fan, smollm2-135m-instruct: 2 stories")
        await visit.look("tab")
        await page.reload()
        await visit.ranked_at_once()
        await expect(rows).to_have_count(2)  # the example was ranked again
        await expect(rows.last).to_contain_text(": 2 stories")
        await rows.last.get_by_role("button").click()
        await expect(page.locator(".ranked > li")).to_have_count(2)
        await expect(page.locator("#tab :is(i, img)")).to_have_count(0)
        kept = json.loads(await page.evaluate("sessionStorage['frontpage.ranked.en']"))
        assert len(kept) == 2
        await page.evaluate("sessionStorage['frontpage.ranked.en'] = '[1, null, {}]'")
        await page.reload()
        await visit.ranked_at_once()
        await expect(rows).to_have_count(1)
