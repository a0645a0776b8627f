"""Locust's users of /predict, /rank and chat.

  python -m locust -f loadtests/locustfile.py -H http://localhost:8000 --class-picker
  python -m locust -f loadtests/locustfile.py -H http://localhost:8000 --headless \\
      --users 8 --spawn-rate 8 --run-time 60s RankUser

Closed load: each user asks again once it is answered, so a slow service is asked less often.
Open load (--rate): requests are due at random times drawn beforehand, whatever has been answered.
A request's time counts from when it was due: a stall is felt by all who would have come meanwhile.
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

from loadtests.traffic import EXAMPLE, Request, Traffic

REFUSED = 503


class FrontpageUser(FastHttpUser):  # type: ignore[misc]
    abstract = True
    wait_time = constant(0)
    concurrency = 100_000  # connections: an open load must not wait for a free one
    kind: ClassVar[str]
    traffic: ClassVar[Traffic]
    headers: ClassVar[dict[str, str]]
    begun: ClassVar[float]
    arrivals: ClassVar[Iterator[float] | None]  # when requests are due; None: a closed load
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
            gevent.sleep(0.05)  # all are sent

    def send(self, due: float) -> None:
        """due: on perf_counter's clock."""
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
    """One line; without the request's id, so that Locust counts equal errors together."""
    if response.status_code == REFUSED:
        return f"refused ({REFUSED})"
    if not response.status_code:
        return f"no answer: {response.error!r}"[:200]
    try:
        return f"{response.status_code}: {response.json()['error']['message']}"[:200]
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code}: {response.text}"[:200]


def add_arguments(parser: ArgumentParser, **_: Any) -> None:
    add: Any = parser.add_argument  # Locust's own takes more than argparse's
    add("--rate", type=float, default=0, help="open load: requests a second; needs --run-time")
    add("--api-key", env_var="OPENAI_API_KEY", help="sent as a Bearer token", is_secret=True)
    hidden = {"include_in_web_ui": False}
    add("--model", default="", help="names of models, with commas; a reader keeps one", **hidden)
    add("--mind", default=str(EXAMPLE), help="a MIND folder, for its titles", **hidden)
    add("--readers", type=int, default=1000, help="how many there are", **hidden)
    add("--seed", type=int, default=0, help="readers and requests follow from it", **hidden)
    add("--part", type=int, default=0, help="other requests of the same readers", **hidden)
    add("--timeout", type=float, default=60, help="seconds to wait for an answer", **hidden)
    add("--samples", metavar="FILE", help="write a line of JSON for each request", **hidden)


def prepare(environment: Environment, **_: Any) -> None:
    options: Any = environment.parsed_options
    if options.rate and isinstance(environment.runner, (MasterRunner, WorkerRunner)):
        raise SystemExit("--rate: an open load is sent by one process")
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
    environment.stop_timeout = options.timeout + 5  # what is under way at the end counts too
    # Else the run time, which is set next, counts from before all this and ends too early.
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
    """A Poisson process given its count, so that the rate asked for is exactly kept: times drawn
    evenly from the whole period, in order."""
    random, begun = Random(f"arrivals {part}"), FrontpageUser.begun
    return iter(sorted(begun + random.uniform(0, seconds) for _ in range(round(rate * seconds))))


def end(**_: Any) -> None:
    if FrontpageUser.samples:
        FrontpageUser.samples.close()


events.init_command_line_parser.add_listener(add_arguments)
events.init.add_listener(prepare)
events.test_start.add_listener(begin)
events.quitting.add_listener(end)
