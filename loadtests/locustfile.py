"""Locust users that send /predict, /rank and chat requests.

  python -m locust -f loadtests/locustfile.py -H http://localhost:8000 --class-picker
  python -m locust -f loadtests/locustfile.py -H http://localhost:8000 --headless \\
      --users 8 --spawn-rate 8 --run-time 60s RankUser

In a closed load each user sends its next request once the last one is answered, so a slow service
receives fewer requests. In an open load (--rate) requests are due at random times drawn beforehand,
regardless of what has been answered. Latency counts from when a request was due: if the service
stalls, every request that was due meanwhile shows it.
"""

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, ClassVar, TextIO

import gevent.pool  # type: ignore[import-untyped]
from locust import FastHttpUser, constant, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.traffic import EXAMPLE_MIND, Request, Traffic

REFUSED_STATUS = 503


class FrontpageUser(FastHttpUser):  # type: ignore[misc]
    """Sends requests of one kind. What all users share is set on this class before the test."""

    abstract = True
    wait_time = constant(0)
    concurrency = 100_000  # connections; an open load must never wait for a free one
    kind: ClassVar[str]
    traffic: ClassVar[Traffic]
    headers: ClassVar[dict[str, str]]
    begun: ClassVar[float]
    arrivals: ClassVar[Iterator[float] | None]  # when requests are due; None in a closed load
    samples: ClassVar[TextIO | None] = None

    def on_start(self) -> None:
        self.under_way = gevent.pool.Group()
        self.make: Callable[[], Request] = getattr(self.traffic, self.kind)

    def on_stop(self) -> None:
        self.under_way.join()

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        if self.arrivals is None:
            self.send(time.perf_counter())
        elif due := next(self.arrivals, None):
            gevent.sleep(max(0.0, due - time.perf_counter()))
            self.under_way.spawn(self.send, due)
        else:
            gevent.sleep(0.05)  # all requests have been sent

    def send(self, due: float) -> None:
        """Send one request. due: when it should have been sent, by time.perf_counter()."""
        request, sent = self.make(), time.perf_counter()
        with self.client.post(
            request.path, data=request.body, headers=self.headers, catch_response=True
        ) as response:
            done, status = time.perf_counter(), response.status_code
            response.request_meta["response_time"] = (done - due) * 1000
            error = "" if status == 200 else describe(response)
            if error:
                response.failure(error)
        if self.samples:
            times = [round(moment - self.begun, 6) for moment in (due, sent, done)]
            self.samples.write(json.dumps([request.stories, *times, status, error]) + "\n")


class PredictUser(FrontpageUser):
    kind = "predict"
    weight = 4


class RankUser(FrontpageUser):
    kind = "rank"
    weight = 5


class ChatUser(FrontpageUser):
    kind = "chat"
    weight = 1


def describe(response: Any) -> str:
    """One line without the request ID, so that Locust counts equal errors together."""
    if response.status_code == REFUSED_STATUS:
        return f"refused ({REFUSED_STATUS})"
    if not response.status_code:
        return f"no answer: {response.error!r}"[:200]
    try:
        return f"{response.status_code}: {response.json()['error']['message']}"[:200]
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code}: {response.text}"[:200]


def add_arguments(parser: ArgumentParser, **_: Any) -> None:
    add: Any = parser.add_argument  # Locust's parser takes more arguments than argparse's
    add(
        "--rate",
        type=float,
        default=0,
        help="send an open load of this many requests per second; needs --run-time",
    )
    add("--api-key", env_var="OPENAI_API_KEY", help="sent as a Bearer token", is_secret=True)
    hidden = {"include_in_web_ui": False}
    add(
        "--model",
        default="",
        help="comma-separated model names; each reader keeps to one",
        **hidden,
    )
    add("--mind", default=str(EXAMPLE_MIND), help="MIND folder to take titles from", **hidden)
    add("--readers", type=int, default=1000, help="number of readers", **hidden)
    add("--seed", type=int, default=0, help="determines readers and requests", **hidden)
    add(
        "--part",
        type=int,
        default=0,
        help="selects another sequence of requests by the same readers",
        **hidden,
    )
    add("--timeout", type=float, default=60, help="seconds to wait for a response", **hidden)
    add("--samples", metavar="FILE", help="file for one line of JSON per request", **hidden)


def prepare(environment: Environment, **_: Any) -> None:
    options: Any = environment.parsed_options
    if options.rate and isinstance(environment.runner, (MasterRunner, WorkerRunner)):
        raise SystemExit("--rate: an open load must be sent by a single process")
    models = [name for name in options.model.split(",") if name]
    user = FrontpageUser
    mind, counts = Path(options.mind), (options.readers, models, options.seed, options.part)
    try:
        user.traffic = Traffic(mind, *counts)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    user.headers = {"Content-Type": "application/json"}
    if options.api_key:
        user.headers["Authorization"] = f"Bearer {options.api_key}"
    user.network_timeout = options.timeout
    environment.stop_timeout = options.timeout + 5  # requests in flight at the end count too
    # Otherwise the run time, which is set next, would count from before this work and end early.
    gevent.get_hub().loop.update_now()


def begin(environment: Environment, **_: Any) -> None:
    options: Any = environment.parsed_options
    if options.samples:
        FrontpageUser.samples = Path(options.samples).open("w", encoding="utf-8")  # noqa: SIM115
    FrontpageUser.begun = time.perf_counter()
    FrontpageUser.arrivals = None
    if options.rate:
        if not options.run_time:
            raise SystemExit("--rate needs --run-time")
        FrontpageUser.arrivals = draw_arrivals(options.rate, options.run_time, options.part)


def draw_arrivals(rate: float, seconds: float, part: int) -> Iterator[float]:
    """Times at which requests are due, by time.perf_counter().

    This is a Poisson process conditioned on its count, so that the rate is met exactly: the times
    are drawn uniformly from the whole period and sorted.
    """
    random, begun = Random(f"arrivals {part}"), FrontpageUser.begun
    return iter(sorted(begun + random.uniform(0, seconds) for _ in range(round(rate * seconds))))


def end(**_: Any) -> None:
    if FrontpageUser.samples:
        FrontpageUser.samples.close()


events.init_command_line_parser.add_listener(add_arguments)
events.init.add_listener(prepare)
events.test_start.add_listener(begin)
events.quitting.add_listener(end)
