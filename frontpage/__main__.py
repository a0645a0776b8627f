"""The command `frontpage`, which `pip install .` installs.

`frontpage serve` is `python -m app`, `frontpage compile` is `python -m app compile`, and
`frontpage train` is `python -m training`.
"""

import argparse
import sys
from typing import NoReturn

from app import __version__

COMMANDS = {
    "serve": "serve predictions (serve --help lists the settings)",
    "compile": "compile the model for this machine's processor (options as of serve)",
    "train": "turn click logs into models (train --help lists the steps)",
}


def main() -> NoReturn:
    match sys.argv[1:]:
        case ["serve", *rest]:
            serve(rest)
        case ["compile", *_] as rest:
            serve(rest, "frontpage")
        case ["train", *rest]:
            train(rest)
        case rest:
            known = parser()
            known.parse_args(rest)  # --help, --version, or an error that names what is wrong
            known.error("the command is missing: serve, compile or train")


def serve(arguments: list[str], program: str = "frontpage serve") -> NoReturn:
    from app.__main__ import end, main

    end(main(arguments, program))


def train(arguments: list[str]) -> NoReturn:
    from training.__main__ import run

    run(arguments, "frontpage train")


def parser() -> argparse.ArgumentParser:
    """What --help shows. Each command reads its own arguments."""
    parser = argparse.ArgumentParser("frontpage", description="Click prediction for news.")
    parser.add_argument("--version", action="version", version=f"frontpage {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


if __name__ == "__main__":
    main()
