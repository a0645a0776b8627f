"""The steps from click logs to a served adapter, one command each."""

import argparse
import signal
import sys
from importlib import import_module
from typing import NoReturn

from app.engine.lora import LoraError
from training.errors import TrainingError

COMMANDS = {
    "download": "bring a base model into models/",
    "collect": "write what the service's store remembers as a log that prepare reads",
    "prepare": "turn click logs into samples",
    "finetune": "train a base model on samples",
    "calibrate": "fit probabilities to how often readers click",
    "tower": "tune a sentence encoder and a reader encoder on clicks",
    "score": "let a model or a tower score impressions that it has not seen",
    "rank": "fit trees on live figures, likeness and the language model",
    "merge": "fold an adapter into its base model",
    "quantize": "write a model with weights of 8 bits",
    "undo": "write an adapter that turns a merged model back into its base",
    "evaluate": "measure models against each other",
    "estimate": "estimate what another order would have earned on logged lists",
    "report": "draw evaluations as one HTML page",
    "refresh": "make the next adapter from the store's traffic, prove it and promote it",
}

INTERRUPTED = 130


def main(arguments: list[str] | None = None, program: str = "python -m training") -> int:
    """Run one command and return the process's exit code: 0, 1 after an error that the user can
    mend, 130 when interrupted. program: its name in help and errors."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        module = import_module(f"training.{name}")  # light: run() imports the work
        command = commands.add_parser(
            name,
            help=help_text,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (TrainingError, LoraError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; no partial result was left in place", file=sys.stderr)
        return INTERRUPTED
    return 0


def run(arguments: list[str] | None = None, program: str = "python -m training") -> NoReturn:
    """Run one command and end the process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the same cleanup as with Ctrl-C
    sys.exit(main(arguments, program))


if __name__ == "__main__":
    run()
