"""Do the clients that people use work with the service? `make clients`

OpenAI's Python and Node clients, LangChain and LiteLLM each run a chat, the same as a stream, a
completion and a structured answer against the default model on the real engine. That model is too
small for its answers to make sense, so types, shapes, finish reasons and schemas are checked, and
that examples/langchain_example.py runs. Each
client is a script of its own, with packages that tests/clients/install.sh puts into
.venv/share/clients. The exit code is 1 if one of them fails.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.models import ROOT
from tests.support.servers import start_service, stopped_at_end

INSTALLED = ROOT / ".venv" / "share" / "clients"
PYTHON = str(INSTALLED / "venv" / "bin" / "python")
# LiteLLM would fetch its table of prices from the internet.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
CLIENTS = {
    "OpenAI for Python": [PYTHON, "-m", "tests.clients.openai_client"],
    "LangChain": [PYTHON, "-m", "tests.clients.langchain_client"],
    "LangChain in examples/": [PYTHON, "-m", "tests.clients.langchain_example"],
    "LiteLLM": [PYTHON, "-m", "tests.clients.litellm_client"],
    "OpenAI for Node": [str(ROOT / ".venv" / "bin" / "node"), str(INSTALLED / "openai_client.mjs")],
}


def main() -> int:
    shutil.copy(Path(__file__).parent / "openai_client.mjs", INSTALLED)
    failed = 0
    with (
        TemporaryDirectory(prefix="frontpage-clients-") as folder,
        stopped_at_end(start_service(Path(folder) / "log")) as service,
    ):
        service.wait_until_ready()
        for name, command in CLIENTS.items():
            done = subprocess.run(
                [*command, service.url],
                cwd=ROOT,
                env={**os.environ, **OFFLINE},
                capture_output=True,
                text=True,
                check=False,
            )
            failed += done.returncode != 0
            print(f"{name}: {done.stderr if done.returncode else 'works'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
