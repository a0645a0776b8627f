"""Live figures of services on one store: everything that any of them learned, each once."""

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.live.live import Live
from app.store.changes import (
    CHANGES_KEPT_S,
    Change,
    Cursor,
    Told,
    read_changes,
    write_changes,
)
from app.store.database import Database
from app.store.events import add_events
from app.store.records import ClickEvent, ImpressionEvent, title_id
from app.store.retention import Retention, erase_reader, trim
from app.store.store import Store
from app.store.tables import live_figures
from tests.support.keys import bearer, key
from tests.support.postgres import Postgres, migrated
from tests.support.site_calls import Json, ask, click, impression, put, refused, send, service
from tests.support.stores import rows, running
from tests.support.waiting import HANG_S, until

NOW = time.time()
SEEN_S = 2.0


async def live_of(client: httpx.AsyncClient, story: str) -> Json | None:
    answer = await client.get(f"/stories/{story}")
    assert answer.status_code == 200, answer.text
    found: Json | None = answer.json()["live"]
    return found


async def counted(client: httpx.AsyncClient, story: str, impressions: int, clicks: int) -> Json:
    """Wait until a story has so many; it must never have more."""
    async with asyncio.timeout(HANG_S):
        while True:
            found = await live_of(client, story)
            have = (found["impressions"], found["clicks"]) if found else (0, 0)
            assert have <= (impressions, clicks)
            if found and have == (impressions, clicks):
                return found
            await asyncio.sleep(0.02)


async def test_an_instance_knows_what_another_learned_within_two_seconds(
    store_url: str, tmp_path: Path
) -> None:
    async with (
        service(store_url, tmp_path / "one") as one,
        service(store_url, tmp_path / "two") as two,
    ):
        await put(one, a="A story", b="Another")
        assert await live_of(two, "a") is None
        delays = []
        for number in range(1, 4):
            shown = impression("a", "b", id=f"i{number}", time=NOW - 100)
            clicked = click("a", impression_id=f"i{number}", time=NOW - 90)
            await send(one, shown, clicked)
            sent = time.perf_counter()
            found = await counted(two, "a", number, number)
            delays.append(time.perf_counter() - sent)
            await counted(one, "a", number, number)
            await counted(two, "b", number, 0)
        assert min(delays) < SEEN_S
        assert found["first_shown"].startswith(
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW - 100))
        )
        assert found["expected_clicks"] > 0


async def test_repeated_events_and_a_readers_second_view_within_an_hour_count_once(
    store_url: str, tmp_path: Path
) -> None:
    async with service(store_url, tmp_path) as client:
        await put(client, a="A story")
        first = impression("a", id="i1", reader_id="u", time=NOW - 5000)
        clicked = click("a", id="c1", reader_id="u", time=NOW - 5000)
        again = impression("a", id="i2", reader_id="u", time=NOW - 4000)
        later = impression("a", id="i3", reader_id="u", time=NOW - 1000)
        await send(client, first, clicked)
        await send(client, first, clicked, again)
        await send(client, later)
        await counted(client, "a", 2, 1)


async def test_clicks_count_without_impression_and_before_it(
    store_url: str, tmp_path: Path
) -> None:
    async with service(store_url, tmp_path) as client:
        await put(client, alone="A story", early="Another", other="A third")
        await send(
            client,
            click("alone", time=NOW),
            click("early", impression_id="later", time=NOW),
            click("other", impression_id="later", time=NOW),
        )
        await counted(client, "alone", 1, 1)
        assert await live_of(client, "early") is None
        await send(client, impression("early", id="later", time=NOW))
        await counted(client, "early", 1, 1)
        await counted(client, "other", 1, 1)  # the impression has not shown it


@pytest.mark.parametrize("remember", [True, False])
async def test_answers_count_once_they_have_feedback(
    store_url: str, tmp_path: Path, remember: bool
) -> None:
    async with service(store_url, tmp_path, remember=remember) as client:
        await put(client, a="A story", b="Another", c="A third")
        candidates = [{"id": "a"}, {"id": "b"}]
        ignored = await ask(client, "/rank", candidates=candidates)
        seen = await ask(client, "/rank", candidates=candidates)
        single = await ask(client, "/predict", target={"id": "c"}, reader_id="u")
        assert ignored["id"] != seen["id"]
        await ask(client, "/feedback", id=seen["id"], index=1, clicked=True)
        await ask(client, "/feedback", id=seen["id"], index=0, clicked=False)
        await ask(client, "/feedback", id=single["id"], index=0, clicked=True)
        await counted(client, "b", 1, 1)
        await counted(client, "a", 1, 0)
        await counted(client, "c", 1, 1)


async def test_titles_without_ids_count_by_the_ids_that_are_made_of_them(
    store_url: str, tmp_path: Path
) -> None:
    async with service(store_url, tmp_path) as client:
        name = title_id("A title")
        await put(client, **{name: "A title"})
        answer = await ask(client, "/rank", candidates=["A title", "Another"])
        await ask(client, "/feedback", id=answer["id"], index=0, clicked=True)
        await counted(client, name, 1, 1)


@pytest.mark.parametrize("remember", [True, False])
async def test_an_answer_that_is_also_reported_by_events_counts_once(
    store_url: str, tmp_path: Path, remember: bool
) -> None:
    """If the events name the answer. Between two instances, in both orders."""
    async with (
        service(store_url, tmp_path / "one", remember=remember) as one,
        service(store_url, tmp_path / "two", remember=remember) as two,
    ):
        await put(one, a="A story", b="Another")
        for number in (1, 2):
            answer = await ask(one, "/rank", candidates=[{"id": "a"}, {"id": "b"}])
            name = answer["id"]
            feedback = {"id": name, "index": 0, "clicked": True}
            if number == 1:
                await ask(two, "/feedback", **feedback)
            await until(partial(kept, store_url, name))
            shown = impression("b", "a", id=name)
            assert await send(two, shown, click("a", impression_id=name)) == (1, 1)
            await ask(two, "/feedback", **feedback)
            await counted(one, "a", number, number)
            await counted(two, "b", number, 0)


def kept(url: str, answer_id: str) -> bool:
    return bool(rows(url, f"SELECT id FROM impressions WHERE id = '{answer_id}'"))


async def test_an_answer_and_other_events_of_its_reader_count_once_an_hour(
    store_url: str, tmp_path: Path
) -> None:
    """With `remember`, even if the events don't name the answer."""
    async with service(store_url, tmp_path, remember=True) as client:
        await put(client, a="A story")
        answer = await ask(client, "/rank", candidates=[{"id": "a"}], reader_id="u")
        await ask(client, "/feedback", id=answer["id"], index=0, clicked=True)
        await send(client, impression("a", reader_id="u"), click("a", reader_id="u"))
        await send(client, impression("a", reader_id="other"))
        await counted(client, "a", 2, 1)


@pytest.mark.parametrize("remember", [True, False])
async def test_a_click_that_feedback_takes_back_is_subtracted(
    store_url: str, tmp_path: Path, remember: bool
) -> None:
    """At its decayed weight, at all instances; the impressions stay."""
    settings = {"remember": remember, "live_half_life_hours": 1}
    async with (
        service(store_url, tmp_path / "one", **settings) as one,
        service(store_url, tmp_path / "two", **settings) as two,
    ):
        await put(one, a="A story", b="Another", c="A third")
        answer = await ask(one, "/rank", candidates=[{"id": "a"}, {"id": "b"}])
        single = await ask(one, "/predict", target={"id": "c"}, reader_id="u")
        for found, story in ((answer, "a"), (single, "c")):
            for clicked in (False, True, False, False, True, True, False):
                await ask(one, "/feedback", id=found["id"], index=0, clicked=clicked)
                if not clicked:
                    continue
                await until_clicks(two, story, 1)
        for client in (one, two):
            for story in ("a", "b", "c"):
                await until_clicks(client, story, 0)
                figure = await live_of(client, story)
                assert figure is not None
                assert figure["impressions"] == 1


async def test_no_click_on_a_repetition_takes_no_click_back(store_url: str, tmp_path: Path) -> None:
    """The same story twice in an answer."""
    async with service(store_url, tmp_path) as client:
        await put(client, a="A story", b="Another")
        answer = await ask(client, "/rank", candidates=[{"id": "a"}, {"id": "a"}])
        for index, clicked in enumerate((True, False)):
            await ask(client, "/feedback", id=answer["id"], index=index, clicked=clicked)
        await send(client, impression("b"))
        await counted(client, "b", 1, 0)
        await counted(client, "a", 1, 1)


async def until_clicks(client: httpx.AsyncClient, story: str, clicks: float) -> None:
    """With a half-life, clicks are a little less than they were."""
    async with asyncio.timeout(HANG_S):
        while True:
            found = await live_of(client, story)
            if found and found["clicks"] == pytest.approx(clicks, abs=0.2):
                return
            await asyncio.sleep(0.02)


async def test_figures_are_as_they_were_after_a_restart(store_url: str, tmp_path: Path) -> None:
    async with service(store_url, tmp_path) as client:
        await put(client, a="A story")
        for number in range(3):
            await send(client, impression("a", id=f"i{number}", time=NOW - number))
        await send(client, click("a", impression_id="i0", time=NOW))
        before = await counted(client, "a", 3, 1)
    [(number,)] = rows(store_url, "SELECT number FROM live_figures")
    assert number == rows(store_url, "SELECT max(number) FROM changes")[0][0]
    async with service(store_url, tmp_path) as client:
        after = await counted(client, "a", 3, 1)
        assert after["expected_clicks"] == pytest.approx(before["expected_clicks"])
        await send(client, impression("a", id="i9", time=NOW))
        await counted(client, "a", 4, 1)


async def test_an_event_in_the_future_moves_no_figure(store_url: str, tmp_path: Path) -> None:
    async with service(store_url, tmp_path, live_half_life_hours=1) as client:
        await put(client, a="A story")
        event = impression("a", time=time.time() + 3600)
        error = await refused(client, "POST", "/events", {"events": [event]})
        assert error == (422, "events.0.time")
        await send(client, impression("a", id="i", time=time.time() + 300))  # a clock that is fast
        found = await counted(client, "a", 1, 0)
        assert found["first_shown"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW + 299))


KEYS = (key("events", "events"), key("twin", "events"), key("admin", "admin"))


def as_key(name: str, *clients: httpx.AsyncClient) -> None:
    """Send this key from now on."""
    for client in clients:
        client.headers.update(bearer(name))


async def test_a_key_that_invents_readers_moves_a_story_no_further_than_its_limit(
    store_url: str, tmp_path: Path
) -> None:
    """Through two instances and with old events, which both count alike; another key's still
    count."""
    async with (
        service(store_url, tmp_path / "one", api_keys=KEYS, live_key_limit=20) as one,
        service(store_url, tmp_path / "two", api_keys=KEYS, live_key_limit=20) as two,
    ):
        as_key("admin", one, two)
        await put(one, a="A story", b="Another")
        as_key("twin", one, two)
        for hour, client in enumerate((one, two, one)):
            at = NOW - 3600 * hour
            readers = [f"invented {hour} {number}" for number in range(40)]
            await send(
                client,
                *(impression("a", reader_id=reader, time=at) for reader in readers[:20]),
                *(click("a", reader_id=reader, time=at) for reader in readers),
            )
        await send(one, impression("b", id="last", time=NOW))
        await counted(two, "b", 1, 0)
        as_key("events", one, two)
        await send(one, *(impression("a", id=f"i{number}", time=NOW) for number in range(7)))
        await send(two, click("a", impression_id="i1", time=NOW))
        for client in (one, two):
            await counted(client, "a", 27, 20 + 1)


async def test_a_keys_feedback_is_limited_like_its_events(store_url: str, tmp_path: Path) -> None:
    keys = (key("predict", "predict"), key("slow", "predict"), key("admin", "admin"))
    async with service(store_url, tmp_path, api_keys=keys, live_key_limit=3) as client:
        as_key("admin", client)
        await put(client, a="A story")
        for name, count in (("slow", 6), ("predict", 2)):
            as_key(name, client)
            for number in range(count):
                answer = await ask(
                    client, "/rank", candidates=[{"id": "a"}], reader_id=f"{name} {number}"
                )
                await ask(client, "/feedback", id=answer["id"], index=0, clicked=True)
        as_key("admin", client)
        await counted(client, "a", 3 + 2, 3 + 2)


async def test_clicks_that_wait_for_anothers_impression_use_up_their_own_keys_limit(
    store_url: str, tmp_path: Path
) -> None:
    async with service(store_url, tmp_path, api_keys=KEYS, live_key_limit=20) as client:
        as_key("admin", client)
        await put(client, a="A story", b="Another")
        as_key("twin", client)
        await send(client, *(click("a", impression_id="next", time=NOW) for _ in range(50)))
        as_key("events", client)
        await send(client, impression("b", id="next", time=NOW))
        await send(client, *(impression("a", time=NOW) for _ in range(30)))
        await counted(client, "a", 40, 20)
        await counted(client, "b", 1, 0)
        assert rows(store_url, "SELECT DISTINCT sender FROM clicks") == [(None,)]


def test_late_commits_are_read_once(postgres: Postgres) -> None:
    """A transaction that began first and ends last has the lower number."""
    database = Database(migrated(postgres))
    database.open()
    seen: list[int] = []
    cursor = Cursor()

    def poll() -> None:
        nonlocal cursor
        with database.reading() as connection:
            found, cursor = read_changes(connection, cursor)
        seen.extend(number for change in found for number in change.clicks)

    with database.writing() as late:
        write_changes(late, [Change(clicks=[1])], NOW)
        with database.writing() as rolled_back:
            write_changes(rolled_back, [Change(clicks=[-1])], NOW)
            rolled_back.rollback()
        for number in (2, 3):
            with database.writing() as connection:
                write_changes(connection, [Change(clicks=[number])], NOW)
        poll()
        poll()
        assert seen == [2, 3]
        assert cursor.gaps
    for _ in range(3):
        poll()
    assert seen == [2, 3, 1]
    assert not cursor.gaps
    database.close()


async def test_concurrent_writers_are_counted_exactly_once(store_url: str) -> None:
    """Three instances write at once while a fourth reads."""
    with running(store_url) as one, running(store_url) as two, running(store_url) as reader:
        live = Live(reader.database, None, 1000)
        live.start()
        try:

            async def write(number: int, store: Any) -> None:
                for batch in range(20):
                    names = [f"{number}.{batch}.{event}" for event in range(5)]
                    await store.add_events(
                        [ImpressionEvent(name, NOW, None, ["a"]) for name in names],
                        [ClickEvent(f"c{names[0]}", NOW, None, "a", names[0])],
                    )

            await asyncio.gather(*(write(n, store) for n, store in enumerate([one, two, reader])))
            await until(lambda: live.figures(["a"], [None], NOW).shown[0] >= 300)
            [(changes,)] = rows(store_url, "SELECT count(*) FROM changes")
            assert changes == 60
        finally:
            live.stop()
        found = live.figures(["a"], [None], NOW)
        assert (found.shown[0], found.clicks[0]) == (300, 60)


async def test_figures_stay_while_the_store_is_away(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    with running(url) as store:
        live = Live(store.database, None, 1000)
        live.start()
        await store.add_events([ImpressionEvent("i", NOW, None, ["a"])], [])
        await until(lambda: live.figures(["a"], [None], NOW).shown[0] == 1)
        rows_before = live.figures(["a"], [None], NOW).shown[0]
        with store.database.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE changes RENAME TO away")
        await until(lambda: live._attempts.failing)
        assert live.figures(["a"], [None], NOW).shown[0] == rows_before
        with store.database.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO changes")
        await store.add_events([ImpressionEvent("j", NOW, None, ["a"])], [])
        await until(lambda: live.figures(["a"], [None], NOW).shown[0] == 2)
        live.stop()


def keep(store: Store, *events: ImpressionEvent) -> None:
    with store.database.writing() as connection:
        add_events(connection, events, [], store.key, NOW)


def shown_by(live: Live, story: str) -> float:
    return float(live.figures([story], [None], NOW).shown[0])


def test_an_instance_that_was_killed_counts_what_no_snapshot_has(store_url: str) -> None:
    with running(store_url) as store:
        killed, other, new = (Live(store.database, None, 1000) for _ in range(3))
        keep(store, ImpressionEvent("i1", NOW, None, ["a", "b"]))
        killed.follow()
        killed.keep_snapshot()
        keep(store, ImpressionEvent("i2", NOW, None, ["a"]))
        killed.follow()
        new.follow()
        other.follow()
        assert [shown_by(live, "a") for live in (killed, new, other)] == [2, 2, 2]
        other.keep_snapshot()
        killed.keep_snapshot()
        keep(store, ImpressionEvent("i3", NOW, None, ["b"]))
        again = Live(store.database, None, 1000)
        again.follow()
        assert (shown_by(again, "a"), shown_by(again, "b")) == (2, 2)


def test_a_snapshot_never_goes_back(store_url: str) -> None:
    with running(store_url) as store:
        ahead, behind = Live(store.database, None, 1000), Live(store.database, None, 1000)
        keep(store, ImpressionEvent("i1", NOW, None, ["a"]))
        behind.follow()
        keep(store, ImpressionEvent("i2", NOW, None, ["a"]))
        ahead.follow()
        ahead.keep_snapshot()
        behind.keep_snapshot()
        new = Live(store.database, None, 1000)
        new.follow()
        assert shown_by(new, "a") == 2


def test_changes_are_deleted_once_they_are_old_and_in_the_snapshot(store_url: str) -> None:
    with running(store_url) as store:
        live = Live(store.database, None, 1000)
        with store.database.writing() as connection:
            write_changes(connection, [Change(clicks=[1])], NOW - CHANGES_KEPT_S - 60)
        trim(store.database, Retention())
        assert rows(store_url, "SELECT count(*) FROM changes") == [(1,)]
        live.follow()
        live.keep_snapshot()
        keep(store, ImpressionEvent("i1", NOW, None, ["a"]))
        trim(store.database, Retention())
        assert rows(store_url, "SELECT number FROM changes") == [(2,)]
        live.follow()
        assert shown_by(live, "a") == 1


def test_numbers_of_deleted_changes_are_not_used_again(store_url: str) -> None:
    with running(store_url) as store:
        live = Live(store.database, None, 1000)
        keep(store, ImpressionEvent("i1", NOW, None, ["a"]))
        live.follow()
        with store.database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM changes")
        keep(store, ImpressionEvent("i2", NOW, None, ["a"]))
        live.follow()
        assert shown_by(live, "a") == 2


def test_a_click_told_by_two_instances_at_once_counts_once(store_url: str) -> None:
    """Both find that the answer had no feedback before."""
    with running(store_url, remember=True) as store:
        live = Live(store.database, None, 1000)
        keep(store, ImpressionEvent("i1", NOW, None, ["a", "b"]))
        told = Told(1, 0, True)
        for _ in range(2):
            with store.database.writing() as connection:
                write_changes(connection, [Change(shown=[1], told=[told])], NOW)
        live.follow()
        found = live.figures(["a", "b"], [None, None], NOW)
        assert (found.shown.tolist(), found.clicks.tolist()) == ([1, 1], [1, 0])


def test_a_reader_who_was_erased_before_it_was_counted_does_not_count(store_url: str) -> None:
    with running(store_url) as store:
        live = Live(store.database, None, 1000)
        keep(store, ImpressionEvent("i1", NOW, "u", ["a"]))
        erase_reader(store.database, store.key.hash("u"), NOW + 1)
        live.follow()
        assert shown_by(live, "a") == 0


@pytest.mark.parametrize("broken", [b"PK nothing", b"PK\x03\x04", b""])
def test_a_broken_snapshot_is_replaced(
    store_url: str, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with running(store_url) as store:
        before, after = Live(store.database, None, 1000), Live(store.database, None, 1000)
        keep(store, ImpressionEvent("i1", NOW, None, ["a"]))
        before.follow()
        before.keep_snapshot()
        with store.database.writing() as connection:
            connection.execute(live_figures.update().values(counts=broken))
        after.follow()
        assert "lost: not a snapshot" in caplog.text
        keep(store, ImpressionEvent("i2", NOW, None, ["a"]))
        after.follow()
        after.keep_snapshot()
        new = Live(store.database, None, 1000)
        new.follow()
        assert shown_by(new, "a") == 1
