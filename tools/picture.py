"""Takes the README's picture of a running service: `python -m tools.picture URL FILE`."""

import asyncio
import sys

from playwright.async_api import async_playwright, expect

from tools.openapi import ROOT

CHROMIUM = ROOT / ".venv" / "bin" / "chromium"
WIDTH, HEIGHT = 1280, 1200


async def take(url: str, file: str) -> None:
    """Rank the example on the page at `url`, ask why the first story is there, and save a picture
    of it as a PNG file."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        await page.goto(url)
        button = page.get_by_role("button", name="Rank", exact=True)
        await button.click()
        await expect(page.get_by_text("Latency")).to_be_visible(timeout=60_000)
        await expect(button).to_be_enabled()
        await page.get_by_text("Why").first.click()
        await page.screenshot(path=file)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(take(*sys.argv[1:]))
    print(f"wrote {sys.argv[2]}")
