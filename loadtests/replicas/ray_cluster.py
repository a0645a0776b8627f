"""A temporary Ray cluster on this machine, for a measurement or a test."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import yaml

from loadtests.services import READY_SECONDS, ROOT, LoadTestError, free_port, last_line

CONFIG = ROOT / "deploy" / "ray" / "frontpage.yaml"
OBJECT_STORE_BYTES = 80_000_000  # Ray's minimum; the service stores no objects
SERVE_API = "/api/serve/applications/"
CALLBACK = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "app.ray.proxy:middlewares"}


@dataclass(frozen=True)
class Replica:
    """A replica as Ray's REST API describes it. started: seconds since 1970."""

    id: str
    state: str
    pid: int
    started: float

    def process(self) -> psutil.Process:
        return psutil.Process(self.pid)

    def engine(self) -> psutil.Process:
        """The engine's process. Raises LoadTestError if there is none."""
        for child in self.process().children(recursive=True):
            if "EngineCor" in child.name() or "EngineCor" in " ".join(child.cmdline()):
                return child
        raise LoadTestError(f"replica {self.id} has no engine")


@dataclass(frozen=True)
class Cluster:
    """url: of Ray's HTTP proxy. dashboard: URL of its REST API. folder: for its temporary files."""

    url: str
    dashboard: str
    head: subprocess.Popen[bytes]
    folder: Path

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Start a deployment, as `serve deploy` does, without waiting. Raises LoadTestError."""
        self._call("PUT", json.dumps(config).encode())

    def details(self) -> dict[str, Any]:
        """The application's state from the REST API. Raises LoadTestError."""
        found: dict[str, Any] = self._call("GET").get("applications", {}).get("frontpage", {})
        return found

    def replicas(self) -> list[Replica]:
        """The running replicas. Raises LoadTestError."""
        deployment = self.details().get("deployments", {}).get("Frontpage", {})
        return [
            Replica(one["replica_id"], one["state"], one["pid"] or 0, one["start_time_s"] or 0.0)
            for one in deployment.get("replicas", [])
            if one["state"] == "RUNNING"
        ]

    def wait_until_running(self, count: int, seconds: float = READY_SECONDS) -> None:
        """Wait until `count` replicas of the latest deployment run.

        Raises LoadTestError if the deployment fails or `seconds` pass.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            details = self.details()
            deployment = details.get("deployments", {}).get("Frontpage", {})
            states = details.get("status"), deployment.get("status")
            if states == ("RUNNING", "HEALTHY") and len(self.replicas()) == count:
                return
            if details.get("status") == "DEPLOY_FAILED" or self.head.poll() is not None:
                break
            time.sleep(0.3)
        found = deployment.get("message") or details.get("message")
        raise LoadTestError(f"the replicas did not start: {found}; see {self.folder}")

    def _call(self, method: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        request = Request(self.dashboard + SERVE_API, body, headers, method=method)
        try:
            with urlopen(request, timeout=60) as answer:
                text = answer.read()
        except HTTPError as error:
            raise LoadTestError(f"Ray: {error.read().decode(errors='replace')}") from None
        except OSError as error:
            raise LoadTestError(f"Ray does not answer: {error}") from None
        found: dict[str, Any] = json.loads(text) if text.startswith(b"{") else {}
        return found


def deployment_of(
    settings: Mapping[str, str], options: Mapping[str, Any], port: int, **application: Any
) -> dict[str, Any]:
    """The repository's deployment with other settings and options; None removes an option."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["proxy_location"] = "HeadOnly"
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    [found] = config["applications"]
    found |= application
    found["runtime_env"] = {"env_vars": dict(settings)}
    [deployment] = found["deployments"]
    deployment |= options
    found["deployments"] = [{name: v for name, v in deployment.items() if v is not None}]
    return config


@contextmanager
def ray_cluster(log: Path, processors: int) -> Iterator[Cluster]:
    """Run a cluster whose tasks may use `processors` cores. Raises LoadTestError."""
    ports = {
        name: free_port() for name in ("port", "dashboard-port", "dashboard-agent-listen-port")
    }
    options = [f"--{name}={port}" for name, port in ports.items()]
    options += [f"--num-cpus={processors}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += ["--disable-usage-stats", "--node-ip-address=127.0.0.1", *options]
    with (
        TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        log.open("wb") as out,
    ):
        environment = {**os.environ, **CALLBACK, "PYTHONPATH": str(ROOT)}
        head = subprocess.Popen(
            [*command, f"--temp-dir={folder}"],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{free_port()}"
        cluster = Cluster(url, f"http://127.0.0.1:{ports['dashboard-port']}", head, Path(folder))
        try:
            wait_until_answering(cluster, log)
            yield cluster
        finally:
            stop(head)


def wait_until_answering(cluster: Cluster, log: Path) -> None:
    """Raises LoadTestError if Ray ends or does not answer in time."""
    deadline = time.monotonic() + 90
    while cluster.head.poll() is None and time.monotonic() < deadline:
        try:
            cluster.details()
        except LoadTestError:
            time.sleep(0.3)
        else:
            return
    raise LoadTestError(f"Ray did not start; see {log}, which ends with {last_line(log)!r}")


def stop(head: subprocess.Popen[bytes]) -> None:
    """Kill Ray and every process it started. A graceful stop would take half a minute."""
    started = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    head.kill()
    head.wait()
    psutil.wait_procs(started, timeout=10)
