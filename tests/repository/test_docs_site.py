"""The site that `make site` builds: complete, searchable, and by itself."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from app import __version__
from tests.support.docs_site import build
from tests.support.models import ROOT
from tools.docs_site import PAGES

DOCUMENTS = PAGES | {
    f"docs/{uri}": uri
    for uri in (file.relative_to(ROOT / "docs").as_posix() for file in ROOT.glob("docs/**/*.md"))
}
"""The page's URI, as MkDocs names it, of each document."""
COUNTED = {"h1", "h2", "h3", "h4", "li", "ol", "ul", "pre", "table", "tr", "img", "strong", "em"}
LOADING = {("a", "href"), ("form", "action")}
"""Attributes that name an address, but load nothing until somebody clicks."""


class Tags(HTMLParser):
    """Counts the tags of an article, and collects what a page loads."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside = inside
        self.counts: Counter[str] = Counter()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = (self.inside or tag == "article") and tag != "nav"
        if self.inside and tag in COUNTED:
            self.counts[tag] += 1
        self.loaded += [
            value or ""
            for name, value in attrs
            if name in {"src", "srcset", "href", "action", "data", "poster"}
            and (tag, name) not in LOADING
        ]

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "article"


def read(html: str, inside: bool = False) -> Tags:
    tags = Tags(inside)
    tags.feed(html)
    return tags


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def page_of(uri: str) -> str:
    return re.sub(r"README$", "index", uri.removesuffix(".md")) + ".html"


def test_search_knows_every_page_and_the_version_is_shown(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_bytes())
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert found == {page_of(uri) for uri in [*DOCUMENTS.values(), "quickstart.md"]}
    assert f"Frontpage {__version__}" in (site / "index.html").read_text("utf-8")


def test_nothing_is_loaded_from_another_origin(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(DOCUMENTS)
    for page in pages:
        loaded = read(page.read_text("utf-8")).loaded
        assert len(loaded) > 3
        assert [one for one in loaded if re.match(r"(?:[a-z]+:)?//", one)] == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text("utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_page_has_the_lists_code_and_tables_of_its_document(site: Path, document: str) -> None:
    """GitHub follows CommonMark; MkDocs uses Python-Markdown, which reads some lists otherwise."""
    text = (ROOT / document).read_text("utf-8")
    expected = read(MarkdownIt("commonmark").enable("table").render(text), inside=True)
    page = (site / page_of(DOCUMENTS[document])).read_text("utf-8")
    assert read(page).counts == expected.counts


def test_a_link_to_a_file_becomes_its_path(site: Path) -> None:
    assert "<code>training/tuning/config.py</code>" in (site / "training.html").read_text("utf-8")
    assert "Apache-2.0 (<code>LICENSE</code>)" in (site / "index.html").read_text("utf-8")
    assert 'href="examples.html"' in (site / "client.html").read_text("utf-8")
    card = (site / "adapters" / "news-smollm2.html").read_text("utf-8")
    assert 'href="../ranker.html"' in card


def append(text: str) -> Callable[[Path], None]:
    def change(docs: Path) -> None:
        with (docs / "faq.md").open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")

    return change


def add_page(docs: Path) -> None:
    (docs / "forgotten.md").write_text("# Forgotten\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (append("[x](nowhere.md)"), "'nowhere.md'"),
        (append("[x](../nowhere.py)"), "'../nowhere.py'"),
        (append("[x](training.md#nowhere)"), "'#nowhere'"),
        (add_page, "forgotten.md"),
    ],
)
def test_what_leads_nowhere_fails_the_build(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    change(tmp_path / "docs")
    hooks = [str(ROOT / "tools" / "docs_site.py")]
    own = {"INHERIT": str(ROOT / "mkdocs.yml"), "docs_dir": "docs", "hooks": hooks}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(own))
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    assert said in done.stderr
