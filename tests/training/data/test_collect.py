"""The service's store as a log to learn from, on SQLite and PostgreSQL."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from app.store.database import Database
from tests.support.site_calls import ask, click, impression, put, send, service
from training.__main__ import main
from training.data.collect import collect
from training.data.options import CollectOptions
from training.data.prepared import PreparedData
from training.errors import TrainingError

HOUR_S = 3600.0
WINDOW_S = HOUR_S
USUAL: dict[str, Any] = {"start": None, "until": None, "window": WINDOW_S / HOUR_S, "history": 50}
Rows = dict[str, dict[str, Any]]


@pytest.fixture
async def site(store_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with service(store_url, tmp_path / "state", remember=True) as client:
        await put(client, a="Apples", b="Bread", c="Cheese", d="Dates")
        yield client


def collected(url: str, out: Path, **changes: Any) -> Rows:
    """The lists by their ids."""
    collect(CollectOptions(store=url, out=out, **(USUAL | changes)))
    return {row["id"]: row for row in pl.read_parquet(out / "impressions.parquet").to_dicts()}


async def tell(site: httpx.AsyncClient, ranking: dict[str, Any]) -> None:
    """Report a click on the second candidate."""
    feedback = {"id": ranking["id"], "index": 1, "clicked": True}
    answer = await site.post("/feedback", json=feedback)
    assert answer.status_code in (200, 202), answer.text


def ago(hours: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - hours * HOUR_S))


async def test_a_list_has_what_was_known_and_what_was_clicked(
    site: httpx.AsyncClient, store_url: str, tmp_path: Path
) -> None:
    await send(
        site,
        click("d", reader_id="r", time=ago(9)),
        impression("c", "a", "b", id="one", reader_id="r", time=ago(5)),
        click("a", reader_id="r", impression_id="one", time=ago(4.9)),
        impression("b", "c", id="two", reader_id="r", time=ago(3)),
        impression("b", "c", id="three", time=ago(2)),
    )
    found = collected(store_url, tmp_path / "out")
    assert list(found) == ["one", "two", "three"]  # in the order of time
    assert found["one"]["shown"] == ["c", "a", "b"]  # in the order shown
    assert found["one"]["clicked"] == [False, True, False]
    assert [found[name]["history"] for name in found] == [["d"], ["d", "a"], []]
    assert found["one"]["reader"] == found["two"]["reader"] != found["three"]["reader"]
    assert found["three"]["reader"] is None
    assert set(pl.read_parquet(tmp_path / "out" / "stories.parquet")["title"]) >= {"Apples"}


async def test_late_clicks_do_not_count_and_young_lists_wait(
    site: httpx.AsyncClient, store_url: str, tmp_path: Path
) -> None:
    await send(
        site,
        impression("a", "b", id="old", reader_id="r", time=ago(9)),
        impression("a", "b", id="young", reader_id="r", time=ago(0.9)),
        impression("c", "b", id="late", reader_id="s", time=ago(8)),
    )
    await send(
        site,
        click("a", reader_id="r", impression_id="old", time=ago(8.5)),
        click("b", reader_id="r", impression_id="young", time=ago(0.8)),
    )
    found = collected(store_url, tmp_path / "out")
    assert set(found) == {"old", "late"}
    assert found["old"]["clicked"] == [True, False]
    young = collected(store_url, tmp_path / "out", window=0.5)
    assert young["young"]["history"] == ["a"]
    assert set(collected(store_url, tmp_path / "out", until=time.time() - 8.5 * HOUR_S)) == {"old"}
    assert set(collected(store_url, tmp_path / "out", start=time.time() - 8.5 * HOUR_S)) == {"late"}


async def test_answers_count_once_something_is_told(
    site: httpx.AsyncClient,
    store_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    candidates = [{"id": name} for name in "abc"]
    known: dict[str, Any] = {"candidates": candidates, "history": [{"id": "d"}]}
    told, untold, late = [await ask(site, "/rank", **known, reader_id=name) for name in "rst"]
    await tell(site, told)
    now = Database.now
    monkeypatch.setattr(Database, "now", lambda self: now(self) + 2 * WINDOW_S)
    await tell(site, late)
    found = collected(store_url, tmp_path / "out")
    assert untold["id"] not in found
    one = found[told["id"]]
    assert one["model"] == told["model"]
    assert one["shown"] == [candidates[story["index"]]["id"] for story in told["results"]]
    assert one["history"] == ["d"]
    assert dict(zip(one["shown"], one["clicked"], strict=True)) == {
        "a": False,
        "b": True,
        "c": False,
    }
    assert not any(found[late["id"]]["clicked"])


async def test_who_was_erased_is_not_in_it(
    site: httpx.AsyncClient, store_url: str, tmp_path: Path
) -> None:
    await send(
        site,
        impression("a", "b", id="kept", reader_id="kept", time=ago(5)),
        impression("a", "b", id="gone", reader_id="gone", time=ago(5)),
    )
    assert set(collected(store_url, tmp_path / "out")) == {"kept", "gone"}
    assert (await site.delete("/readers/gone")).status_code < 300
    late = impression("a", "b", id="came late", reader_id="gone", time=ago(4))
    await send(site, late)  # sent before it was erased, and stored after
    assert set(collected(store_url, tmp_path / "out")) == {"kept"}


async def test_unknown_stories_are_left_out_and_counted(
    site: httpx.AsyncClient, store_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await send(
        site,
        impression("a", "never sent", "b", id="one", reader_id="r", time=ago(5)),
        impression("never sent", id="two", time=ago(5)),
    )
    arguments = ["collect", "--store", store_url, "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "1 lists of 2 stories with 0 clicks, 4 stories" in said
    assert "2 stories shown are not stored and left out" in said
    assert pl.read_parquet(tmp_path / "out" / "impressions.parquet")["shown"].to_list() == [
        ["a", "b"]
    ]


async def test_nothing_to_collect_leaves_no_folder(
    site: httpx.AsyncClient, store_url: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="no list of stored stories"):
        collected(store_url, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("sqlite:///{}/none.sqlite", "there is no such file"),
        ("mysql://localhost/x", "sqlite or postgresql is needed"),
    ],
)
def test_a_store_that_is_none(
    store: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["collect", "--store", store.format(tmp_path), "--out", str(out)]) == 1
    assert says in capsys.readouterr().err
    assert not out.exists()


async def test_prepare_reads_it(site: httpx.AsyncClient, store_url: str, tmp_path: Path) -> None:
    for number, hours in enumerate((50, 49, 26, 2)):
        name = f"list {number}"
        await send(
            site,
            impression("c", "a", "b", id=name, reader_id="r", time=ago(hours)),
            click("ab"[number % 2], reader_id="r", impression_id=name, time=ago(hours - 0.1)),
        )
    collected(store_url, tmp_path / "out")
    arguments = ["--train", str(tmp_path / "out"), "--out", str(tmp_path / "prepared")]
    assert main(["prepare", *arguments]) == 0
    data = PreparedData(tmp_path / "prepared")
    learned = list(data.impressions("train"))
    assert [one.reader.history[-1].title for one in learned[1:]] == ["Apples", "Bread"]
    (held_out,) = data.impressions("val")
    assert held_out.clicked == [False, False, True]
