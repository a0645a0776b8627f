"""Build the CPU image, start the stack, use it, break it and stop it: `make demo`.

Needs only Docker with Compose. Each line says what was shown and how long it took. It stops at the
first failure with exit code 1 and the last lines of the service's log. At the end everything it
created is removed, except for the images. The variables of docker-compose.yml apply here too.
"""

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "frontpage-demo"
GRAFANA = os.environ.get("GRAFANA_IMAGE", "grafana/grafana:11.6.0")
READER = {"history": ["Tesla", "SpaceX"], "liked": ["Apple"], "disliked": ["weather", "sports"]}
LOAD = "--headless --users 2 --spawn-rate 2 --run-time 30s --only-summary PredictUser ChatUser"
HANG_S = 1200.0  # No step needs so long: it only ends what would never happen.
KILL_ENGINE = """
import psutil
[engine] = [one for one in psutil.Process(1).children() if "EngineCore" in one.name()]
engine.kill()
print(engine.name(), engine.pid)
"""


class Failed(Exception):
    """The stack did not do what was expected. The message says how."""


def expect(condition: object, complaint: object) -> None:
    """Raises Failed with the complaint unless the condition is true."""
    if not condition:
        raise Failed(complaint)


def call(*command: str, **more: str) -> str:
    """Run a command and return its output. Raises Failed with the last of it if it fails.

    more: variables to add to its environment.
    """
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    expect(
        done.returncode == 0, f"{' '.join(command)}: code {done.returncode}\n{done.stdout[-4000:]}"
    )
    return done.stdout.strip()


def works(*command: str) -> bool:
    """Whether the command exists and succeeds."""
    return (
        shutil.which(command[0]) is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


def wait_for(what: str, check: Callable[[], Any]) -> Any:
    """Call `check` until its result is true, and return that; a refused connection is not an error.

    Raises Failed once HANG_S have passed.
    """
    deadline = time.monotonic() + HANG_S
    while time.monotonic() < deadline:
        try:
            if found := check():
                return found
        except (OSError, ValueError):
            pass
        time.sleep(0.2)
    raise Failed(f"{what}: did not happen within {HANG_S:.0f} s")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def ask(url: str, body: object = None, authorization: str = "") -> tuple[int, Any]:
    """Send a request, a POST if there is a body; returns (status, JSON)."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    if authorization:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


class Demonstration:
    """The steps of the demonstration. Each returns a line for the reader or raises Failed.

    secrets: the folder for the keys.
    """

    def __init__(self, secrets: Path) -> None:
        self.secrets = secrets
        docker_compose = works("docker", "compose", "version")
        self.command = ["docker", "compose"] if docker_compose else ["docker-compose"]
        self.begun = time.monotonic()
        ports = {name: free_port() for name in ("PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")}
        self.variables = {"SECRETS": str(secrets), **ports}
        self.service = f"http://127.0.0.1:{ports['PORT']}"
        self.prometheus = f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}/api/v1"
        self.grafana = f"http://127.0.0.1:{ports['GRAFANA_PORT']}/api"

    def compose(self, *arguments: str) -> str:
        return call(*self.command, "--project-name", PROJECT, *arguments, **self.variables)

    def inspect(self, field: str) -> str:
        container = self.compose("ps", "--all", "--quiet", "frontpage")
        return call("docker", "inspect", "--format", f"{{{{{field}}}}}", container)

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

    def post(self, path: str, body: object) -> tuple[int, Any]:
        return ask(self.service + path, body, f"Bearer {self.secret('client_key')}")

    def run(self) -> None:
        for part in (
            *(self.build, self.make_keys, self.start, self.predict, self.rank, self.refuse),
            *(self.watch, self.chart, self.load, self.kill_engine, self.drain),
        ):
            begun = time.monotonic()
            shown = part()
            print(f"{time.monotonic() - begun:7.1f} s  {shown}", flush=True)
        print(f"all shown in {time.monotonic() - self.begun:.0f} s")

    def build(self) -> str:
        self.compose("build", "frontpage")
        self.compose("build", "load")
        sizes = call("docker", "image", "inspect", "--format", "{{.Size}}", "frontpage:cpu")
        return f"images built; frontpage:cpu has {int(sizes) / 1e9:.2f} GB"

    def make_keys(self) -> str:
        call("docker/keys.sh", str(self.secrets))
        return "keys made"

    def start(self) -> str:
        self.compose("up", "--detach", "frontpage")
        self.wait_until_ready()
        return f"ready, as user {self.inspect('.Config.User')}; {self.memory()}"

    def wait_until_ready(self) -> None:
        wait_for("readiness", lambda: ask(f"{self.service}/ready")[0] == 200)

    def memory(self) -> str:
        container = self.compose("ps", "--quiet", "frontpage")
        used = call("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", container)
        return f"memory {used}"

    def predict(self) -> str:
        status, answer = self.post("/predict", READER | {"target": "Microsoft"})
        expect(status == 200 and 0 < answer["probability"] < 1, answer)
        self.probability = answer["probability"]
        return f"/predict: {self.probability:.6f}, by {answer['model']}"

    def rank(self) -> str:
        stories = ["Microsoft", "Stocks fall", "Cup final", "Rain at the weekend"]
        status, answer = self.post("/rank", READER | {"candidates": stories})
        expect(status == 200, answer)
        results = answer["results"]
        found = [result["probability"] for result in results]
        expect(len(found) == 4 and found == sorted(found, reverse=True), answer)
        same = next(result for result in results if result["index"] == 0)["probability"]
        expect(abs(same - self.probability) < 1e-4, f"/rank: {same}, /predict: {self.probability}")
        return "/rank: " + ", ".join(stories[result["index"]] for result in results)

    def refuse(self) -> str:
        expect(ask(f"{self.service}/predict", {"target": "a"})[0] == 401, "/predict without a key")
        status, answer = self.post("/adapters", {"name": "a", "path": "a"})
        expect(status == 403, answer)
        return "without a key: 401; without the scope: 403"

    def watch(self) -> str:
        self.compose("up", "--detach", "prometheus")
        self.compose(
            "exec",
            "-T",
            "prometheus",
            "promtool",
            "check",
            "config",
            "/etc/prometheus/prometheus.yml",
        )
        wait_for("scrape of the service", self.target_is_up)
        rules = wait_for("evaluation of the rules", self.evaluated_rules)
        return f"Prometheus: target up, {len(rules)} alert rules without error, none fires"

    def target_is_up(self) -> bool:
        targets = ask(f"{self.prometheus}/targets")[1]["data"]["activeTargets"]
        return [target["health"] for target in targets] == ["up"]

    def evaluated_rules(self) -> list[Any]:
        """All rules, or none until every one was evaluated.

        Raises Failed if one is broken or firing.
        """
        groups = ask(f"{self.prometheus}/rules")[1]["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        broken = [rule["name"] for rule in rules if rule["health"] == "err"]
        firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
        expect(not broken and not firing, f"broken: {broken}, firing: {firing}")
        return rules if all(rule["health"] == "ok" for rule in rules) else []

    def chart(self) -> str:
        if not works("docker", "image", "inspect", GRAFANA) and not works(
            "docker", "pull", GRAFANA
        ):
            return f"Grafana left out: {GRAFANA} can't be pulled here"
        self.compose("up", "--detach", "grafana")
        login = base64.b64encode(f"admin:{self.secret('grafana_password')}".encode()).decode()
        search = f"{self.grafana}/search?type=dash-db"
        wait_for("dashboards", lambda: len(ask(search, None, f"Basic {login}")[1]) == 3)
        return "Grafana: three dashboards"

    def load(self) -> str:
        table = self.compose("run", "--rm", "load", *LOAD.split())
        line = next(line.split() for line in table.splitlines() if "Aggregated" in line)
        rules = wait_for("evaluation of the rules", self.evaluated_rules)
        expect(rules, "no rules")
        return f"Locust for 30 s: {line[1]} answers, {line[2]} failures; no alert fires"

    def kill_engine(self) -> str:
        """Kill the engine's process while it works on a request that would take minutes."""
        body = json.dumps({"prompt": "News:", "max_tokens": 4000, "ignore_eos": True}).encode()
        request = self.begin("/v1/completions", len(body))
        request.send(body)
        wait_for("start of the request", lambda: self.gauge("vllm:num_requests_running") == 1)
        engine = self.compose("exec", "-T", "frontpage", "python", "-c", KILL_ENGINE)
        killed = request.getresponse()
        answer = json.load(killed)
        expect((killed.status, answer["error"]["code"]) == (503, "engine_unavailable"), answer)
        request.close()
        wait_for(
            "restart", lambda: self.gauge('frontpage_engine_restarts_total{reason="died"}') == 1
        )
        self.wait_until_ready()
        status, answer = self.post("/predict", READER | {"target": "Microsoft"})
        expect(status == 200 and abs(answer["probability"] - self.probability) < 1e-4, answer)
        wait_for("scrape of the service", self.target_is_up)
        expect(self.inspect(".RestartCount") == "0", "the container was restarted")
        return f"{engine} killed: 503 for the request at work, then ready again, as before"

    def drain(self) -> str:
        """Stop the service while a request is in progress, which it is until we send its body."""
        body = json.dumps(READER | {"candidates": ["Stocks fall", "Cup final"]}).encode()
        request = self.begin("/rank", len(body))
        wait_for("start of the request", lambda: self.gauge("frontpage_pending_requests") == 1)
        stopping = threading.Thread(target=self.compose, args=("stop", "frontpage"))
        stopping.start()
        wait_for("failure of /ready", lambda: ask(f"{self.service}/ready")[0] == 503)
        status, refused = self.post("/predict", {"target": "a"})
        expect(status == 503, refused)
        request.send(body)
        answer = request.getresponse()
        expect(answer.status == 200, f"the request in progress: {answer.status} {answer.read()!r}")
        request.close()
        stopping.join()
        expect(self.inspect(".State.ExitCode") == "0", "the exit code is not 0")
        return "stopped: 503 for new work, 200 for the /rank in progress, then exit code 0"

    def begin(self, path: str, length: int) -> http.client.HTTPConnection:
        """Send a POST up to its body of `length` bytes. The service waits for that, and counts the
        request as in progress."""
        request = http.client.HTTPConnection(self.service.removeprefix("http://"), timeout=HANG_S)
        request.putrequest("POST", path)
        request.putheader("Authorization", f"Bearer {self.secret('client_key')}")
        request.putheader("Content-Type", "application/json")
        request.putheader("Content-Length", str(length))
        request.putheader("X-Request-Timeout-Ms", "600000")
        request.endheaders()
        return request

    def gauge(self, name: str) -> float:
        """The value of a metric with one series, as the service reports it."""
        request = urllib.request.Request(f"{self.service}/metrics")
        request.add_header("Authorization", f"Bearer {self.secret('client_key')}")
        with urllib.request.urlopen(request, timeout=120) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name)))

    def remove(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans")


def main() -> int:
    if not works("docker", "info"):
        print("failed: the Docker daemon does not answer", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="frontpage-demo-"))
    demonstration = Demonstration(folder / "secrets")
    try:
        demonstration.run()
    except Failed as failure:
        print(f"failed: {failure}", file=sys.stderr)
        print(demonstration.compose("logs", "--tail", "30"), file=sys.stderr)
        return 1
    finally:
        demonstration.remove()
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
