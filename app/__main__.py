"""The command `python -m app`: reads the settings, starts the engine and serves.

`python -m app compile` compiles the model for this machine's processor instead, which takes about
two minutes on two cores. A service with the same settings then runs it compiled.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import uvloop

from app.engine import threads
from app.engine.compiling import compile_model
from app.engine.environment import be_quiet
from app.engine.processes import descendants, kill_all
from app.errors import EngineUnavailable, StartupError
from app.models.merged import merge_if_asked
from app.observability import logs
from app.settings import Settings, read_settings

if TYPE_CHECKING:
    from app.service import Service

logger = logging.getLogger("frontpage")


def main(arguments: list[str], program: str = "python -m app") -> int:
    """Serve until SIGTERM or SIGINT and return the process's exit code.

    arguments: settings as options. program: its name in help and errors.
    """
    be_quiet()
    is_to_compile = arguments[:1] == ["compile"]
    if is_to_compile:
        arguments, program = arguments[1:], f"{program} compile"
    for sent in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sent, stop)
    try:
        settings = read_settings(arguments, program)
        logs.configure(settings)
        if is_to_compile:
            print(compile_model(merge_if_asked(settings)))
            return 0
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(settings))
    except StartupError as error:
        print(f"frontpage: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def stop(_signal: int, _frame: FrameType | None) -> None:
    """Handle a signal before uvicorn does, and again after it has shut down."""
    raise KeyboardInterrupt


async def serve(settings: Settings) -> int:
    """Serve until the end; returns the exit code.

    The port opens once the service can answer, with the language model or without.
    """
    import uvicorn

    from app.main import create_app
    from app.security.hosts import listening_host
    from app.server import Server

    host = listening_host(settings)
    check_port(host, settings.port)
    settings = merge_if_asked(settings)
    app = create_app(settings)
    service: Service = app.state.service
    async with service.opened():
        if not service.can_degrade:
            await service.supervision.start()
        config = uvicorn.Config(
            app,
            host=host,
            port=settings.port,
            lifespan="off",  # we run it, so that a failed start is one line and no traceback
            log_config=None,  # uvicorn's log lines go to our handler
            log_level="warning",
            access_log=False,
        )
        server = Server(config, service)
        await server.run_until_end()
    if server.failure is not None and not isinstance(server.failure, EngineUnavailable):
        raise server.failure
    return 1 if server.failure else 0


def check_port(host: str, port: int) -> None:
    """Raises StartupError if the port is taken; called before the model is loaded."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StartupError(
            f"can't listen on {host}:{port}: {error.strerror}; choose another with PORT= or"
            " FRONTPAGE_PORT="
        ) from None


def end(code: int) -> NoReturn:
    """End the process, without Python's own shutdown if a thread is still importing libraries."""
    if threads.is_any_at_work():
        kill_all(descendants())
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)
    gc.collect()  # vLLM's engine complains if it is collected after its modules
    sys.exit(code)


if __name__ == "__main__":
    end(main(sys.argv[1:]))
