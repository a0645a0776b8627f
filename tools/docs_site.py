"""MkDocs' hooks for the site of the documents (`make site`).

The documents are written for the repository: README.md and others lie outside docs/, and links lead
to any file. So pages are made of those documents without copying them, and a link to a file that is
no page becomes the file's path. A link to a file that does not exist stays as it is, so that a
strict build fails.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from textwrap import indent

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from app import __version__

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "README.zh.md": "readme-zh.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples.md",
    "adapters/news-smollm2/README.md": "adapters/news-smollm2.md",
}
"""The page of each document outside docs/."""
QUICKSTART = "quickstart.md"
QUICKSTART_SECTIONS = ("Two commands", "First calls")
"""Of README.md."""
MERMAID = ROOT / ".venv" / "share" / "mermaid.min.js"
"""Draws diagrams. requirements/browser.sh brings it; the theme would load it from elsewhere."""
WIDE_DIAGRAM = ("```mermaid\nflowchart LR\n", "```mermaid\nflowchart TB\n")
"""A page's column is narrower than GitHub's: from top to bottom the words are large enough."""
STYLE = ROOT / "tools" / "docs_site.css"
SOURCES = {page: source for source, page in PAGES.items()} | {QUICKSTART: "README.md"}
FENCE = r"^[ ]*```.*?^[ ]*```$"
LINK = r"\[(?P<label>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)"
PIECE = re.compile(rf"{FENCE}|`[^`\n]+`|{LINK}", re.M | re.S)
"""Code, in which nothing is a link, or a link."""
BLOCK = re.compile(rf"{FENCE}|(?<=\n\n)(?:[ ]{{2,3}}\S[^\n]*\n)+", re.M | re.S)
"""Code, or a further paragraph of a list item."""
DIAGRAM = re.compile(r'<pre class="mermaid">.*?</pre>', re.S)
FENCE_MARK = re.compile(r"^([ ]*```\w+) (\S+)$", re.M)
"""A block's second word, which tests read: a file's name, or why the block is not run."""


def on_config(config: MkDocsConfig) -> None:
    config.site_name = f"{config.site_name} {__version__}"


def on_files(files: Files, config: MkDocsConfig) -> None:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, QUICKSTART, content=quickstart()))
    if not MERMAID.exists():
        raise PluginError(f"{MERMAID} is missing: run make packages-dev")
    for asset in (MERMAID, STYLE):
        files.append(File.generated(config, asset.name, abs_src_path=str(asset)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    uri = page.file.src_uri

    def replace(piece: re.Match[str]) -> str:
        if piece["target"] is None:
            return piece[0]
        return rewrite(piece[0], piece["label"], piece["target"], uri)

    return PIECE.sub(replace, BLOCK.sub(show_block, markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    html, diagrams = DIAGRAM.subn(r'<div class="diagram">\g<0></div>', html)
    if not diagrams:
        return html
    script = relpath(MERMAID.name, str(PurePosixPath(page.url).parent))
    return f'{html}\n<script src="{script}"></script>'


def quickstart() -> str:
    """The sections of README.md that a newcomer needs first."""
    sections = re.split(r"^## ", (ROOT / "README.md").read_text("utf-8"), flags=re.M)
    by_title = {section.partition("\n")[0]: section for section in sections[1:]}
    try:
        found = [by_title[title] for title in QUICKSTART_SECTIONS]
    except KeyError as error:
        raise PluginError(f"README.md has no section {error}") from None
    return "# Quickstart\n\n" + "".join(f"## {section}" for section in found)


def show_block(block: re.Match[str]) -> str:
    """As Python-Markdown reads it. What belongs to a list item is indented by two spaces in the
    documents and by four for Python-Markdown, which also wants an empty line before the next item.
    """
    text = FENCE_MARK.sub(show_mark, block[0]).replace(*WIDE_DIAGRAM)
    return indent(text, "  ") + "\n" if text.startswith(" ") else text


def show_mark(fence: re.Match[str]) -> str:
    return f'{fence[1]} title="{fence[2]}"' if "." in fence[2] else fence[1]


def rewrite(link: str, label: str, target: str, page: str) -> str:
    """The link as the page of this URI needs it. page: relative to docs/, as MkDocs names it."""
    path, mark, anchor = target.partition("#")
    if not path or "://" in path:
        return link
    source = SOURCES.get(page, f"docs/{page}")
    leads_to = normpath(PurePosixPath(source).parent / path)
    if leads_to in PAGES or leads_to.startswith("docs/"):
        inside = PAGES.get(leads_to, leads_to.removeprefix("docs/"))
        return f"[{label}]({relpath(inside, str(PurePosixPath(page).parent))}{mark}{anchor})"
    if not (ROOT / leads_to).exists():
        return link
    says_the_same = leads_to.endswith(label.strip("`/"))
    return f"`{leads_to}`" if says_the_same else f"{label} (`{leads_to}`)"
