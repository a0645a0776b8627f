"""Two models side by side, and what keys may do, on the real engine with a tiny random model."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.support.servers import Service
from tests.support.shared_services import ADMIN_KEY, READER_KEY
from tests.support.visits import Visit, visiting


def call(service: Service, method: str, path: str, body: Any = None) -> Any:
    url = f"{service.url}/{path}"
    answer = httpx.request(method, url, json=body, headers=service.headers, timeout=120)
    return answer.raise_for_status().json()


@pytest.fixture
def restored(tiny_service: Service) -> Iterator[Service]:
    """Without what the test loads, at its end."""
    yield tiny_service
    for path in ("aliases/default", "adapters/news"):
        url = f"{tiny_service.url}/{path}"
        httpx.delete(url, headers=tiny_service.headers, timeout=60)


async def test_without_a_key_it_asks_for_one_and_forgets_it(
    browser: Browser, tiny_service: Service
) -> None:
    async with visiting(browser, tiny_service.url, refusals=frozenset({401})) as visit:
        page = visit.page
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("an API key is needed")
        await expect(page.locator("#live-state")).to_have_text("Live figures need a key.")
        await visit.look("not-authorised")
        await page.get_by_role("button", name="Rank", exact=True).click()
        await expect(page.get_by_role("dialog", name="API key")).to_be_visible()
        await expect(page.get_by_label("Key", exact=True)).to_be_focused()
        await visit.look("key")
        await visit.enter_key("fp-wrong")
        await expect(alert).to_contain_text("this API key is not known")
        await alert.get_by_role("button", name="Enter key").click()
        await visit.enter_key(READER_KEY)
        await expect(page.get_by_label("Model", exact=True)).to_contain_text("first")
        await expect(alert).to_be_empty()
        await visit.rank()
        await expect(page.locator(".ranked > li")).to_have_count(12)
        await expect(page.locator("#live-requests")).not_to_have_text("–")
        assert READER_KEY not in await page.content()
        assert '-H "Authorization: Bearer $KEY"' in (
            await page.locator("#curl").text_content() or ""
        )
        stored = "[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]"
        session, local, cookies = await page.evaluate(stored)
        assert (READER_KEY in session, local, cookies) == (True, "{}", "")
        await page.get_by_role("button", name="Forget key").click()
        await expect(alert).to_contain_text("an API key is needed")
        assert READER_KEY not in await page.evaluate("JSON.stringify(sessionStorage)")


async def test_two_models_side_by_side(browser: Browser, tiny_service: Service) -> None:
    async with visiting(browser, tiny_service.url, refusals=frozenset({401})) as visit:
        page = visit.page
        await page.get_by_role("alert").get_by_role("button", name="Enter key").click()
        await visit.enter_key(READER_KEY)
        await page.get_by_label("Model", exact=True).select_option("tiny-qwen3")
        await page.get_by_label("Compare with").select_option("first")
        await visit.rank()
        await expect(page.locator(".summary h3")).to_have_text(["tiny-qwen3", "first"])
        for lead, other in ((0, 1), (1, 0)):
            ranks = await read_ranks(visit)
            assert [pair[lead] for pair in ranks] == list(range(1, 13))
            assert sorted(pair[other] for pair in ranks) == list(range(1, 13))
            assert any(pair[0] != pair[1] for pair in ranks)
            moves = await page.locator(f".measure.model-{other} .move").all_text_contents()
            assert moves == [moved(pair[lead], pair[other]) for pair in ranks]
            if lead == 0:
                await visit.look("compared")
                await page.get_by_label("first", exact=True).check()
        await expect(page.get_by_role("status").first).to_have_text("Ordered by first.")
        await expect(page.get_by_label("first", exact=True)).to_be_focused()


def moved(lead: int, own: int) -> str:
    if own == lead:
        return f"#{own} =, same place"
    up = lead - own
    return f"#{own} ▲{up}, {up} higher" if up > 0 else f"#{own} ▼{-up}, {-up} lower"


async def read_ranks(visit: Visit) -> list[tuple[int, ...]]:
    """Of each story both ranks, in the order shown."""
    found = []
    for item in await visit.page.locator(".ranked > li").all():
        texts = await item.locator(".move").all_text_contents()
        found.append(tuple(int(re.findall(r"#(\d+)", text)[0]) for text in texts))
    return found


async def test_a_readers_key_can_change_nothing(browser: Browser, tiny_service: Service) -> None:
    path, refusals = "/page/experiments.html", frozenset({401, 403})
    async with visiting(browser, tiny_service.url, path, refusals) as visit:
        alert = visit.page.get_by_role("alert").first
        await expect(alert).to_contain_text("an API key is needed")
        await alert.get_by_role("button", name="Enter key").click()
        await visit.enter_key(READER_KEY)
        await expect(alert).to_contain_text("This key may not do that")
        await expect(alert).to_contain_text("a key with the scope “admin”")
        await expect(visit.page.get_by_role("button", name="Load", exact=True)).to_be_hidden()
        await visit.look("no-admin")


async def test_an_administrator_loads_an_adapter_and_moves_readers(
    browser: Browser, restored: Service
) -> None:
    path, refusals = "/page/experiments.html", frozenset({401, 422})
    async with visiting(browser, restored.url, path, refusals) as visit:
        page = visit.page
        await page.get_by_role("alert").first.get_by_role("button", name="Enter key").click()
        await visit.enter_key(ADMIN_KEY)
        await load(visit, "news", "nowhere")
        notice = page.locator("#load-notice")
        await expect(notice).to_contain_text("there is no folder 'nowhere'")
        await expect(page.get_by_label("Folder", exact=True)).to_have_attribute(
            "aria-invalid", "true"
        )
        served = [one["name"] for one in call(restored, "GET", "adapters")["adapters"]]
        assert served == ["first", "second"]
        await load(visit, "news", "second")
        await expect(notice).to_have_text("✓ news is served.")
        await expect(page.get_by_label("Folder", exact=True)).not_to_have_attribute(
            "aria-invalid", "true"
        )
        await expect(page.get_by_role("row", name=re.compile(r"^news \d+ serving"))).to_be_visible()

        await page.get_by_role("button", name="Review change").click()
        await expect(page.locator("#split-notice")).to_contain_text("weight above 0")
        await page.get_by_label("tiny-qwen3", exact=True).fill("3")
        await page.get_by_label("news", exact=True).fill("1")
        await page.get_by_role("button", name="Review change").click()
        dialog = page.get_by_role("dialog", name="Create default?")
        await expect(dialog.get_by_role("row", name="news – 25.0 %")).to_be_visible()
        await expect(page.locator("#split-notice")).to_be_empty()
        await visit.look("confirm")
        await dialog.get_by_role("button", name="Cancel").click()
        assert call(restored, "GET", "aliases")["aliases"] == []
        await page.get_by_role("button", name="Review change").click()
        await dialog.get_by_role("button", name="Create", exact=True).click()
        await expect(page.locator("#split-notice")).to_have_text("✓ default is created.")
        await expect(page.locator(".alias")).to_contain_text("tiny-qwen3 75.0 %, news 25.0 %")
        (alias,) = call(restored, "GET", "aliases")["aliases"]
        assert alias == {"alias": "default", "weights": {"tiny-qwen3": 3, "news": 1}}
        show_outcomes(restored)
        await page.get_by_label("Answers from").select_option("the last 7 days")
        await expect(page.get_by_role("table", name="Requested as default")).to_contain_text("news")
        await expect(page.locator(".difference")).to_have_text(
            re.compile(r"^Too early to compare news with tiny-qwen3")
        )
        await visit.look("experiments")
        await page.get_by_role("button", name="Change default").click()
        await expect(page.get_by_label("tiny-qwen3", exact=True)).to_have_value("3")
        await page.get_by_label("tiny-qwen3", exact=True).fill("0")
        await page.get_by_role("button", name="Review change").click()
        dialog = page.get_by_role("dialog", name="Change default?")
        for row in ("tiny-qwen3 75.0 % 0 %", "news 25.0 % 100 %"):
            await expect(dialog.get_by_role("row", name=row)).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await expect(page.get_by_role("button", name="Review change")).to_be_focused()
    (alias,) = call(restored, "GET", "aliases")["aliases"]
    assert alias["weights"] == {"tiny-qwen3": 3, "news": 1}


async def load(visit: Visit, name: str, folder: str) -> None:
    await visit.page.get_by_label("Name", exact=True).fill(name)
    await visit.page.get_by_label("Folder", exact=True).fill(folder)
    await visit.page.get_by_role("button", name="Load", exact=True).click()
    dialog = visit.page.get_by_role("dialog", name=f"Load {name}?")
    await expect(dialog).to_contain_text(f"checks the folder “{folder}”")
    await dialog.get_by_role("button", name="Load", exact=True).click()


def show_outcomes(service: Service) -> None:
    """Answers through the alias, of readers of both models, some with a click."""
    models = set()
    for number in range(12):
        body = {"reader_id": f"reader-{number}", "candidates": ["Cup final", "Shares", "Soup"]}
        answer = call(service, "POST", "rank", body)
        models.add(answer["model"])
        click = {"id": answer["id"], "index": number % 3, "clicked": number % 2 == 0}
        call(service, "POST", "feedback", click)
    assert models == {"tiny-qwen3", "news"}
