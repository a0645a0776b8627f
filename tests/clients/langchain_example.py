"""examples/langchain_example.py runs. Run by tests/clients/__main__.py."""

import subprocess
import sys

from tests.clients.verdict import MODEL


def main(url: str) -> None:
    command = [sys.executable, "-m", "examples.langchain_example", "--url", url, "--model", MODEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("Coach fired after losing season: ")
    assert second.startswith("How to cook a juicy turkey: ")
    assert all(len(line.split(": ")[1]) > 1 for line in (first, second))


if __name__ == "__main__":
    main(sys.argv[1])
