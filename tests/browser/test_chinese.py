"""The page in Chinese: which visits get it, and that none of its states leaves English behind."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from app.engine.fake import FakeEngine
from app.settings import Limits
from tests.browser.conftest import Serve
from tests.browser.test_states import keep_clicks
from tests.support.rankers import MODEL
from tests.support.visits import Visit, visiting

TITLES = ["体育 | 决赛踢到点球大战", "财经 | 油价连涨五天，股市下跌", "天气 | 周五或迎今年初雪"]
NAMES = {"Frontpage", "English", "API", "AUC", "ID", "CSV", "RSS", "UTC", "Ctrl", "curl", "Python"}
NAMES |= {":text", "token", "adapter", "Yes", "scope", "ms", "p50", "p95", "title"}
SAID = """() => {
  const own = ":not(code, pre, script, style, [translate=no], .what + p)";
  const all = [...document.querySelectorAll(`title, body ${own}`)];
  return all.flatMap((one) => [
    ...[...one.childNodes].map((node) => node.data ?? ""),
    ...["aria-label", "title", "placeholder"].map((name) => one.getAttribute(name) ?? ""),
  ]);
}"""
"""What the page shows or says, hidden or not, without code and the service's messages."""


async def only_chinese(visit: Visit, *names: str) -> None:
    """names: those that the page did not choose, such as a model's."""
    texts = await visit.page.evaluate(SAID)
    for name in sorted({*names, *NAMES}, key=len, reverse=True):
        texts = [text.replace(name, "") for text in texts]
    assert not [text for text in texts if re.search(r"[A-Za-z]{2}", text)]


async def set_in_chinese(visit: Visit) -> None:
    """Titles that are Chinese too, so that all English is the page's."""
    page = visit.page
    while await page.get_by_role("button", name="移除：").count():
        await page.get_by_role("button", name="移除：").first.click()
    for name in ("点击历史", "喜欢", "不喜欢"):
        await page.get_by_label(f"“{name}”的新条目", exact=True).fill(TITLES[0])
        await page.get_by_role("button", name=f"添加到“{name}”", exact=True).click()
    await page.get_by_label("每行一个标题").fill("\n".join(TITLES))
    await rank(visit)
    await page.evaluate("sessionStorage.clear()")  # the example's rankings
    link = page.get_by_role("button", name="复制此页设置的链接")
    await link.click()
    await expect(page.locator("#link")).to_have_text("已复制")
    await page.reload()
    await visit.ranked_at_once()


async def rank(visit: Visit) -> None:
    button = visit.page.get_by_role("button", name="排序", exact=True)
    await button.click()
    await expect(button).to_be_enabled()


async def test_each_state_of_a_ranking_is_chinese(
    browser: Browser, serve: Serve, ranked: dict[str, Any], engine: FakeEngine
) -> None:
    limits = Limits(max_title_chars=70)
    async with (
        serve(**ranked, limits=limits) as url,
        visiting(browser, url, "/?lang=zh", frozenset({422, 503})) as visit,
    ):
        page, alert = visit.page, visit.page.get_by_role("alert")
        await expect(page).to_have_title("Frontpage – 这位读者会点击哪条新闻？")
        await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        await visit.ranked_at_once()
        await expect(page.locator("#pasted")).to_be_hidden()
        await visit.look("chinese")
        await set_in_chinese(visit)
        assert "lang=" not in page.url  # a link is for readers of either language
        await expect(page.locator("#live-requests")).not_to_have_text("–")
        await only_chinese(visit, MODEL)
        await page.get_by_text("为什么").first.click()
        await page.get_by_role("button", name="哪些点击过的新闻在起作用？").click()
        await expect(page.locator(".influence")).to_contain_text("全部 1 条")
        await page.get_by_role("button", name="已点击：").first.click()
        await expect(page.get_by_text("✓ 已点击")).to_be_visible()
        await page.get_by_text("技术数据").click()
        await only_chinese(visit, MODEL, await page.locator(".summary code").inner_text())
        await visit.look("chinese-why")
        for other in (MODEL, "投资者"):
            await page.get_by_label("对比").select_option(other)
            await rank(visit)
            await expect(page.locator(".order label")).to_have_count(2)
            await only_chinese(visit, MODEL)
        await visit.look("chinese-compared")
        await page.get_by_label("对比").select_option("不对比")
        engine.dead = True
        await rank(visit)
        await expect(page.locator(".notice.degraded")).to_contain_text("语言模型没有回答。")
        await only_chinese(visit, MODEL)
        engine.dead = False
        await page.get_by_label("每行一个标题").fill("长标题" * 30)
        await rank(visit)
        await expect(alert).to_contain_text("字段：新闻，第 1 行")
        await expect(alert).to_contain_text("at most 70 characters")  # the service's own message
        await only_chinese(visit, MODEL)
        await visit.look("chinese-error")
        await page.get_by_role("button", name="清空").click()
        await rank(visit)
        await expect(page.locator(".empty")).to_have_text("没有可排序的新闻：请至少添加一条。")
        await only_chinese(visit, MODEL)


async def test_the_experiments_are_chinese(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    async with serve() as url:
        keep_clicks(
            f"sqlite:///{tmp_path / 'state' / 'frontpage.sqlite'}", {"m1": 9, "m2": 12, "m3": 12}
        )
        names = ("m1", "m2", "m3", "smollm2-135m-instruct", "default")
        path = "/page/experiments.html?lang=zh"
        async with visiting(browser, url, path, frozenset({422})) as visit:
            page = visit.page
            await expect(page).to_have_title("Frontpage – 实验")
            said = page.locator(".difference")
            await expect(said.first).to_have_text("m1 得到的点击比 m2 多。")
            await expect(said.last).to_have_text("现在比较 m2 和 m3 还为时过早。")
            await page.get_by_text("以表格显示").first.click()
            await page.get_by_text("各项数据的含义").click()
            await only_chinese(visit, *names)
            await visit.look("chinese-outcomes")
            await page.get_by_role("button", name="载入示例数据").click()
            await expect(said).to_have_text(
                "现在比较 example-tuned 和 example-base 还为时过早：大约还需 14,000 次展示。"
            )
            await only_chinese(visit, *names, "example-tuned", "example-base")
            await page.get_by_role("button", name="检查修改").click()
            await expect(page.locator("#split-notice")).to_contain_text("大于 0 的权重")
            await page.get_by_label("smollm2-135m-instruct", exact=True).fill("1")
            await page.get_by_role("button", name="检查修改").click()
            await expect(page.get_by_role("dialog", name="创建 default？")).to_be_visible()
            await only_chinese(visit, *names, "example-tuned", "example-base")
            await visit.look("chinese-confirm")


async def test_the_switch_keeps_what_the_page_is_set_to_and_is_remembered(
    browser: Browser, serve: Serve
) -> None:
    async with serve() as url, visiting(browser, url) as visit:
        page, html = visit.page, visit.page.locator("html")
        switch = page.locator("#language [aria-current]")
        await visit.ranked_at_once()
        await expect(html).to_have_attribute("lang", "en")
        await expect(switch).to_have_text("English")
        await page.get_by_role("button", name="Investor", exact=True).click()
        await page.get_by_label("One title per line").fill("\n".join(TITLES))
        await page.get_by_role("link", name="中文").click()
        await expect(html).to_have_attribute("lang", "zh-CN")
        await expect(switch).to_have_text("中文")
        await visit.ranked_at_once()
        await expect(page.locator(".ranked > li")).to_have_count(len(TITLES))
        chosen = page.get_by_role("button", name="投资者", exact=True)
        await expect(chosen).to_have_attribute("aria-pressed", "true")
        await page.get_by_role("link", name="实验").click()
        await expect(page.get_by_role("heading", name="实验结果")).to_be_visible()
        await page.goto(url)
        await expect(page.get_by_role("heading", level=1)).to_have_text("这位读者会点击哪条新闻？")
        await visit.ranked_at_once()
        await page.get_by_role("link", name="English").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Which story"))
        await visit.ranked_at_once()
        await page.get_by_role("link", name="Experiments").click()
        await expect(page.get_by_role("heading", name="Outcomes")).to_be_visible()


@pytest.mark.parametrize(
    ("locale", "path", "wanted"),
    [
        ("zh-TW", "/", "zh-CN"),
        ("zh-CN", "/?lang=en", "en"),
        ("zh-CN", "/?lang=toString", "zh-CN"),
        ("de-DE", "/", "en"),
    ],
)
async def test_the_browsers_language_counts_until_one_is_chosen(
    browser: Browser, serve: Serve, locale: str, path: str, wanted: str
) -> None:
    async with serve() as url, visiting(browser, url, path, locale=locale) as visit:
        await visit.ranked_at_once()
        await expect(visit.page.locator("html")).to_have_attribute("lang", wanted)
