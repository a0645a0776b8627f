"""Images, Compose and Kubernetes name only what is there, and keep what they promise.

That they work is shown by `make demo`, which needs a Docker engine; Kubernetes' own files are held
against Kubernetes' schemas.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from app.http.routes import operations
from app.observability import metrics
from app.settings import Settings
from tests.support.models import ROOT
from training import refresh

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
SERVING = {name: OURS[name] for name in ("frontpage", "frontpage-gpu")}
KUBERNETES = ROOT / "deploy" / "kubernetes"
REFRESH = KUBERNETES / "refresh.yaml"
KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
OBJECTS: list[dict[str, Any]] = [
    found
    for name in KUSTOMIZATION["resources"]
    for found in yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8"))
]
BY_KIND = {found["kind"]: found for found in OBJECTS}
POD = BY_KIND["Deployment"]["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]
PROMETHEUS = ROOT / "deploy" / "monitoring" / "prometheus.yml"


def stages() -> dict[str, str]:
    """Each stage of the Dockerfile by its name."""
    parts = re.split(r"^FROM \S+ AS (\S+)\n", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("target", sorted({one["build"]["target"] for one in OURS.values()}))
def test_images_run_as_a_user_without_rights(target: str) -> None:
    users = re.findall(r"^USER (\S+)$", stages()[target], flags=re.MULTILINE)
    assert users[-1] == "frontpage"


def test_what_images_copy_is_there_and_goes_to_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore[1] == "*", "everything is left out, but for what is named"
    sent = [Path(line[1:]) for line in ignore if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(\S+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    assert len(copied) > 5
    for name in copied:
        assert (ROOT / name).exists(), name
        assert Path(name) in sent, name
    for path in sent:
        assert str(path) in copied, f"{path}: sent to the builder for nothing"


def test_compose_keeps_to_what_1_29_knows() -> None:
    assert set(COMPOSE) <= {"services", "volumes", "secrets"} | {
        name for name in COMPOSE if name.startswith("x-")
    }


def test_compose_profiles() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert profiles == {
        **{"frontpage": None, "prometheus": None, "grafana": None, "frontpage-gpu": ["gpu"]},
        **{"train": ["train"], "train-gpu": ["train"], "load": ["load"]},
        **{name: ["postgres"] for name in ("postgres", "migrate", "frontpage-postgres")},
    }


@pytest.mark.parametrize("name", SERVICES)
def test_compose_services_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert "pids_limit" in service
    for port in service.get("ports", []):
        assert re.match(r"127\.0\.0\.1:|\$\{BIND:-127\.0\.0\.1\}:", port)


@pytest.mark.parametrize("name", SERVICES)
def test_compose_services_name_what_is_there(name: str) -> None:
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        there = (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        assert there, volume
    keys = (ROOT / "docker" / "keys.sh").read_text(encoding="utf-8")
    for secret in service.get("secrets", []):
        assert COMPOSE["secrets"][secret]["file"] == f"${{SECRETS:-./docker/secrets}}/{secret}"
        assert f'"{secret}"' in keys
    if name in OURS:
        assert service["build"]["target"] in stages()


@pytest.mark.parametrize("service", SERVING.values(), ids=SERVING)
def test_compose_serves_with_keys_restarts_and_drains(service: dict[str, Any]) -> None:
    assert service["environment"]["FRONTPAGE_SECRETS"] == "/run/secrets"
    assert service["secrets"] == ["frontpage_api_keys"]
    assert service["restart"] == "unless-stopped"
    assert int(service["stop_grace_period"].removesuffix("s")) > settings_of("docker").drain_s + 5
    assert "state:/state" in service["volumes"]


def test_compose_instances_share_a_postgresql_that_is_migrated_before_they_start() -> None:
    instance, migrate = SERVICES["frontpage-postgres"], SERVICES["migrate"]
    assert instance["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert migrate["command"][1:] == ["-m", "app.store", "migrate"]
    for service in (instance, migrate):
        assert service["image"] == OURS["frontpage"]["image"]
        assert {"frontpage_store", "frontpage_reader_key"} <= set(service["secrets"])
    assert any(mount.startswith("/state") for mount in instance["tmpfs"]), "one for each instance"
    keys = (ROOT / "docker" / "keys.sh").read_text(encoding="utf-8")
    user, database = (
        SERVICES["postgres"]["environment"][name] for name in ("POSTGRES_USER", "POSTGRES_DB")
    )
    assert f"postgresql://{user}:{{password}}@postgres/{database}" in keys


def settings_of(folder: str) -> Settings:
    return Settings(**json.loads((ROOT / folder / "frontpage.json").read_text(encoding="utf-8")))


def test_prometheus_finds_either_service() -> None:
    config = yaml.safe_load(
        (ROOT / "deploy" / "monitoring" / "prometheus.yml").read_text(encoding="utf-8")
    )
    [job] = config["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    assert target == "frontpage:8000"
    assert SERVICES["frontpage-gpu"]["networks"]["default"]["aliases"] == ["frontpage"]
    key = Path(job["authorization"]["credentials_file"])
    assert key.parent == Path("/run/secrets")
    assert key.name in SERVICES["prometheus"]["secrets"]


def test_kustomization_has_every_file() -> None:
    files = {file.name for file in KUBERNETES.iterdir()} - {"kustomization.yaml"}
    [settings] = KUSTOMIZATION["configMapGenerator"]
    assert files == {*KUSTOMIZATION["resources"], *settings["files"], REFRESH.name}


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_objects_keep_to_their_schemas(version: str) -> None:
    checked = 0
    for found in OBJECTS:
        if found["kind"] == "ServiceMonitor":  # not of Kubernetes itself
            continue
        kubernetes_validate.validate(found, version, strict=True)
        checked += 1
    assert checked == 6
    broken = json.loads(json.dumps(BY_KIND["Deployment"]))
    broken["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_the_refresh_of_kubernetes_finds_what_it_needs(version: str) -> None:
    claim, job = yaml.safe_load_all(REFRESH.read_text(encoding="utf-8"))
    for found in (claim, job):
        kubernetes_validate.validate(found, version, strict=True)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["securityContext"] == POD["spec"]["securityContext"]
    [container] = pod["containers"]
    assert container["securityContext"] == CONTAINER["securityContext"]
    parser = argparse.ArgumentParser()
    refresh.add_arguments(parser)
    given = parser.parse_args(container["args"][1:])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert mounts["plan"] == str(given.config.parent)
    assert mounts["runs"] == str(Path("/work") / given.out.parts[0])
    volumes = {one["name"]: one for one in pod["volumes"]}
    claims = {
        one["persistentVolumeClaim"]["claimName"]
        for one in volumes.values()
        if len(one) > 1 and "persistentVolumeClaim" in one
    }
    assert claims == {
        claim["metadata"]["name"],
        BY_KIND["PersistentVolumeClaim"]["metadata"]["name"],
    }
    assert container["env"][0]["name"] == "FRONTPAGE_STORE"


def test_kubernetes_selects_the_pods_by_one_label() -> None:
    labels = POD["metadata"]["labels"]
    assert BY_KIND["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    services = [found for found in OBJECTS if found["kind"] == "Service"]
    assert all(service["spec"]["selector"] == labels for service in services)


def test_kubernetes_probes_ask_routes_that_are_there() -> None:
    routes = {route.path for route in operations.router.routes}  # type: ignore[attr-defined]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = CONTAINER[probe]["httpGet"]
        assert asked["path"] in routes
        assert asked["port"] in {port["name"] for port in CONTAINER["ports"]}
    startup = CONTAINER["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600


def test_kubernetes_waits_for_the_drain() -> None:
    before_s = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = settings_of("deploy/kubernetes").drain_s
    assert POD["spec"]["terminationGracePeriodSeconds"] > before_s + drain_s + 5


def test_kubernetes_runs_as_the_images_user_and_mounts_what_it_declares() -> None:
    user = re.search(r"useradd --uid (\d+)", DOCKERFILE)
    assert user is not None
    assert POD["spec"]["securityContext"]["runAsUser"] == int(user[1])
    declared = {volume["name"] for volume in POD["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert set(mounts) == declared
    environment = {one["name"]: one["value"] for one in CONTAINER["env"]}
    assert environment["FRONTPAGE_SECRETS"] == mounts["keys"]
    assert environment["FRONTPAGE_CONFIG"] == f"{mounts['settings']}/frontpage.json"
    claim = BY_KIND["PersistentVolumeClaim"]["metadata"]["name"]
    assert {"claimName": claim} in [
        volume.get("persistentVolumeClaim") for volume in POD["spec"]["volumes"]
    ]


def test_kubernetes_instances_share_a_store_that_is_migrated_before_they_start() -> None:
    [migrate] = POD["spec"]["initContainers"]
    assert migrate["command"][1:] == ["-m", "app.store", "migrate"]
    for name in ("image", "env", "securityContext"):
        assert migrate[name] == CONTAINER[name]
    [keys] = [volume for volume in POD["spec"]["volumes"] if volume["name"] == "keys"]
    secrets = [source["secret"]["name"] for source in keys["projected"]["sources"]]
    assert secrets == ["frontpage-api-keys", "frontpage-store"]
    page = (ROOT / "docs" / "operations" / "kubernetes.md").read_text(encoding="utf-8")
    assert "create secret generic frontpage-store" in page
    for file in ("frontpage_store", "frontpage_reader_key"):
        assert file.removeprefix("frontpage_") in Settings.model_fields
        assert f"--from-literal={file}=" in page
    [state] = [volume for volume in POD["spec"]["volumes"] if volume["name"] == "state"]
    assert "emptyDir" in state


def test_kubernetes_monitors_the_service_as_the_alerts_expect() -> None:
    service, monitor = BY_KIND["Service"], BY_KIND["ServiceMonitor"]["spec"]
    assert service["metadata"]["labels"] == monitor["selector"]["matchLabels"]
    assert service["metadata"]["name"] == "frontpage"  # becomes the job
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    config = yaml.safe_load(
        (ROOT / "deploy" / "monitoring" / "prometheus.yml").read_text(encoding="utf-8")
    )
    assert endpoint["interval"] == config["global"]["scrape_interval"]


def test_kubernetes_scales_on_a_metric_that_is_there() -> None:
    spec = BY_KIND["HorizontalPodAutoscaler"]["spec"]
    [metric] = spec["metrics"]
    [pending] = metrics.PENDING_TOKENS.describe()
    assert metric["pods"]["metric"]["name"] == pending.name
    scaled = BY_KIND["Deployment"]
    assert spec["scaleTargetRef"]["name"] == scaled["metadata"]["name"]
    assert "replicas" not in scaled["spec"], "the autoscaler sets it"
