"""What docs/your-own-data.md needs to run: files in EB-NeRD's layout, and a small site's tables."""

import os
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

from tests.support.models import ROOT
from tests.support.postgres import Postgres, binaries
from tests.support.site_logs import stories
from tests.support.training_page import make_servable, script

PAGE = ROOT / "docs" / "your-own-data.md"
READERS = 12
ARTICLES = 40
WEEK = timedelta(days=7)
START = datetime(2023, 5, 18, 7)
ARTICLE_COLUMNS: dict[str, Any] = {
    "article_id": pl.Int32,
    "title": pl.String,
    "subtitle": pl.String,
    "last_modified_time": pl.Datetime("us"),
    "premium": pl.Boolean,
    "body": pl.String,
    "published_time": pl.Datetime("us"),
    "image_ids": pl.List(pl.Int64),
    "article_type": pl.String,
    "url": pl.String,
    "ner_clusters": pl.List(pl.String),
    "entity_groups": pl.List(pl.String),
    "topics": pl.List(pl.String),
    "category": pl.Int16,
    "subcategory": pl.List(pl.Int16),
    "category_str": pl.String,
    "total_inviews": pl.Int32,
    "total_pageviews": pl.Int32,
    "total_read_time": pl.Float32,
    "sentiment_score": pl.Float32,
    "sentiment_label": pl.String,
}
BEHAVIOR_COLUMNS: dict[str, Any] = {
    "impression_id": pl.UInt32,
    "article_id": pl.Int32,
    "impression_time": pl.Datetime("us"),
    "read_time": pl.Float32,
    "scroll_percentage": pl.Float32,
    "device_type": pl.Int8,
    "article_ids_inview": pl.List(pl.Int32),
    "article_ids_clicked": pl.List(pl.Int32),
    "user_id": pl.UInt32,
    "is_sso_user": pl.Boolean,
    "gender": pl.Int8,
    "postcode": pl.Int8,
    "age": pl.Int8,
    "is_subscriber": pl.Boolean,
    "session_id": pl.UInt32,
    "next_read_time": pl.Float32,
    "next_scroll_percentage": pl.Float32,
}
HISTORY_COLUMNS: dict[str, Any] = {
    "user_id": pl.UInt32,
    "impression_time_fixed": pl.List(pl.Datetime("us")),
    "scroll_percentage_fixed": pl.List(pl.Float32),
    "article_id_fixed": pl.List(pl.Int32),
    "read_time_fixed": pl.List(pl.Float32),
}


def table(rows: list[dict[str, Any]], columns: dict[str, Any]) -> pl.DataFrame:
    """Rows with all of the columns; null where a row has none."""
    return pl.DataFrame([dict.fromkeys(columns) | row for row in rows], schema=columns)


def make_ebnerd(folder: Path) -> None:
    """articles.parquet; train, validation and test with behaviors.parquet and history.parquet. The
    columns and types are those of the public bundles."""
    chance = random.Random(0)
    articles = [
        {"article_id": 9_000_000 + n, "title": s["title"], "subtitle": s["abstract"]}
        | {"category_str": s["category"], "published_time": START, "premium": False}
        for n, s in enumerate(stories()[:ARTICLES])
    ]
    folder.mkdir(parents=True)
    table(articles, ARTICLE_COLUMNS).write_parquet(folder / "articles.parquet")
    for week, split in enumerate(("train", "validation", "test")):
        (folder / split).mkdir()
        begin = START + week * WEEK
        rows = [
            {
                "impression_id": 1000 * week + number,
                "user_id": 1 + chance.randrange(READERS),
                "impression_time": begin + WEEK * chance.random(),
                "article_ids_inview": shown,
                "article_ids_clicked": chance.sample(shown, 1),
                "session_id": number,
                "device_type": 2,
            }
            for number in range(40)
            for shown in [[9_000_000 + n for n in chance.sample(range(ARTICLES), 6)]]
        ]
        behaviors = table(rows, BEHAVIOR_COLUMNS)
        if split == "test":
            behaviors = behaviors.drop("article_ids_clicked", "next_read_time")
        behaviors.write_parquet(folder / split / "behaviors.parquet")
        past = [make_past(user, begin, chance) for user in range(1, READERS + 1)]
        table(past, HISTORY_COLUMNS).write_parquet(folder / split / "history.parquet")


def make_past(user: int, begin: datetime, chance: random.Random) -> dict[str, Any]:
    """A reader's clicks of the 21 days before a split, oldest first."""
    times = sorted(begin - 3 * WEEK * chance.random() for _ in range(5))
    clicked = [9_000_000 + n for n in chance.sample(range(ARTICLES), 5)]
    return {"user_id": user, "impression_time_fixed": times, "article_id_fixed": clicked}


Rows = Sequence[tuple[object, ...]]
TABLES = """
create table articles (id bigint primary key, headline text not null, section text);
create table teasers (page_view uuid, reader_id bigint, shown_at timestamptz, place int,
    article_id bigint, clicked boolean);
create table clicks (reader_id bigint, article_id bigint, clicked_at timestamptz);
"""


def make_shop(url: str) -> None:
    """A database as a site may have it, with some readers that are not known."""
    with psycopg.connect(url) as connection:
        connection.execute(TABLES)
        articles = enumerate(stories()[:ARTICLES])
        rows: Rows = [(n, story["title"], story["category"] or None) for n, story in articles]
        insert(connection, "articles", rows)
        insert(connection, "teasers", list(make_teasers()))
        connection.execute(
            "insert into clicks select reader_id, article_id, shown_at + interval '20 seconds'"
            " from teasers where clicked"
        )


def make_teasers() -> Iterator[tuple[object, ...]]:
    """Ten days of pages with five teasers each."""
    chance = random.Random(1)
    for page in range(80):
        when = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=3 * page)
        reader = chance.choice([None, *range(1, READERS + 1)])
        shown = chance.sample(range(ARTICLES), 5)
        clicked = chance.choice(shown)
        for place, article in enumerate(shown, 1):
            yield f"{page:032x}", reader, when, place, article, article == clicked


def insert(connection: psycopg.Connection[Any], name: str, rows: Rows) -> None:
    marks = ", ".join(["%s"] * len(rows[0]))
    with connection.cursor() as cursor:
        cursor.executemany(f"insert into {name} values ({marks})".encode(), rows)


def prepare(root: Path, postgres: Postgres) -> tuple[list[str], Path, dict[str, str]]:
    """The repository as a reader has it, with the data. Returns the command, the folder to run it
    in, and its environment."""
    for name in ("app", "training", "configs", "examples"):
        (root / name).symlink_to(ROOT / name)
    make_servable(root / "models" / "tiny")
    make_ebnerd(root / "ebnerd")
    database = postgres.new_database()
    make_shop(database)
    folders = [str(Path(sys.executable).parent), str(binaries()), os.environ["PATH"]]
    commands = script(PAGE, EBNERD="ebnerd", DATABASE=database)
    return ["bash", "-c", commands], root, {"PATH": os.pathsep.join(folders)}
