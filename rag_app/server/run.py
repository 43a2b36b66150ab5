"""Run the application in uvicorn until it is told to stop; SIGTERM and Ctrl-C drain it first."""

import socket
from collections.abc import Callable

import uvicorn

from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.server.application import make_application

DRAIN_SECONDS = 30
"""What answers under way have left after SIGTERM."""


def serve(config: Config, say: Callable[[str], None]) -> None:
    """Listen on ``server.host`` and ``server.port`` until a signal.

    Parameters
    ----------
    say
        Is told where it listens.

    Raises
    ------
    ConfigError
        If other machines could ask without a key.
    InputError
        If the address cannot be listened on.
    """
    # First: it refuses to be open without a key, before anything listens.
    application = make_application(config)
    section = config.server
    # Here and not in uvicorn, which would log a port in use and exit by
    # itself; and a free port (0) is known before it is told.
    listener = _listen(section.host, section.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"serving {config.vector_store.collection!r} on http://{shown}:{port}, Ctrl-C ends it")
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )
    server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        # Or the port of a server that has just ended could not be had again for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Before anyone is told of it: who comes before uvicorn does then waits, and is not refused.
        listener.listen()
    # UnicodeError: a name that cannot be encoded for DNS.
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"cannot listen on {host}, port {port}: {error}",
            "choose another: rag-app serve --host 127.0.0.1 --port 8081",
        ) from None
    return listener
