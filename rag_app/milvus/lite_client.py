"""What pymilvus is taught: a path is a database that is shared, and its holder may change.

All clients of a database go through here, those too that LlamaIndex's store makes or another
program makes in this process: pymilvus asks `ConnectionConfig.from_uri` where a path is, and the
connection's strategy what to do when it breaks. It then sends the call again; what rag_app writes
may be written twice, since ids are digests.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakSet

from pymilvus.client import connection_manager
from pymilvus.client.connection_manager import ConnectionConfig, ConnectionManager, RegularStrategy
from pymilvus.client.grpc_handler import GrpcHandler
from pymilvus.exceptions import MilvusException

from rag_app.errors import VectorStoreError
from rag_app.milvus import lite_shared
from rag_app.milvus.errors import LiteFailure
from rag_app.milvus.lite_locks import CAN_LOCK

_PINGS = {
    # A holder that hangs is noticed by them, however long a call may take.
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 20_000,
}

_DONE_ALREADY = {
    "create_collection": "already exists",
    "create_index": "already",
    "drop_index": "no index",
    "rename_collections": "does not exist",
}
"""What Milvus Lite says to a call that was done already; one that is sent again may have been."""

_handlers: WeakSet["LiteHandler"] = WeakSet()


class LiteHandler(GrpcHandler):  # type: ignore[misc]
    """A connection to a shared database, wherever it is held."""

    def __init__(self, database: lite_shared.SharedDatabase, **settings: Any) -> None:
        self.database = database
        self._moves = 0
        super().__init__(**settings)
        _handlers.add(self)
        database.on_close.append(self._close_for_good)

    def reconnect(self, address: str | None = None, timeout: float = 10) -> None:
        """Go to whoever holds the database now; open it in this process if nobody does.

        Raises
        ------
        LiteFailure
            If that is not possible within ``timeout`` seconds.
        """
        until = time.monotonic() + (timeout or lite_shared.PATIENCE)
        while True:
            left = max(until - time.monotonic(), 0.1)
            try:
                address = self.database.reach(patience=left)
                super().reconnect(address, timeout=left)
            except VectorStoreError as error:
                raise LiteFailure(error) from error
            except MilvusException as error:
                # Between its address and the connection a holder may end; then there is another.
                if time.monotonic() >= until:
                    raise LiteFailure(lite_shared.not_answering(self.database.path)) from error
            else:
                self._moves += 1
                return

    def _wait_for_channel_ready(self, timeout: float | None = 10, **settings: Any) -> Any:
        # From pymilvus's own `reconnect`, which would call itself from here without end.
        if settings:
            return super()._wait_for_channel_ready(timeout, **settings)
        try:
            return super()._wait_for_channel_ready(timeout)
        except MilvusException:
            return self.reconnect(timeout=timeout or lite_shared.PATIENCE)

    def _close_for_good(self) -> None:
        manager = ConnectionManager.get_instance()
        # Else pymilvus gives the closed connection to the next client of this path.
        with manager._lock:
            for key in [key for key, each in manager._registry.items() if each.handler is self]:
                del manager._registry[key]
        self.close()


def _once(method: str, done: str) -> Callable[..., Any]:
    bare = getattr(GrpcHandler, method)

    def call(self: LiteHandler, *arguments: Any, **settings: Any) -> Any:
        before = self._moves
        try:
            return bare(self, *arguments, **settings)
        except MilvusException as error:
            if self._moves != before and done in error.message:
                return None
            raise

    return call


for _method, _done in _DONE_ALREADY.items():
    setattr(LiteHandler, _method, _once(_method, _done))


class _LiteStrategy(RegularStrategy):  # type: ignore[misc]
    def __init__(self, database: lite_shared.SharedDatabase) -> None:
        self._database = database

    def create_handler(self, config: ConnectionConfig) -> LiteHandler:
        settings = config.get_handler_kwargs()
        settings["grpc_options"] = {**settings.get("grpc_options", {}), **_PINGS}
        return LiteHandler(
            self._database,
            uri=config.uri,
            address=config.address,
            token=config.token,
            db_name=config.db_name,
            **settings,
        )


def path_of(client: Any) -> Path | None:
    """Return the folder of the database that a client uses; None: it uses a server."""
    handler = client._handler
    return handler.database.path if isinstance(handler, LiteHandler) else None


def install() -> None:
    """Make this process's pymilvus share Milvus Lite databases. Does nothing the second time."""
    if not CAN_LOCK or hasattr(ConnectionConfig, "rag_app_shares"):
        return
    bare_from_uri, bare_strategy = ConnectionConfig.from_uri, ConnectionManager._get_strategy

    def from_uri(uri: str, **settings: Any) -> ConnectionConfig:
        # Of a folder that is not there pymilvus tells by itself.
        if uri.endswith(".db") and Path(uri).parent.is_dir() and not is_opened_alone(uri):
            try:
                uri = lite_shared.share(Path(uri)).reach()
            except VectorStoreError as error:
                raise LiteFailure(error) from error
        return bare_from_uri(uri, **settings)

    def strategy_of(self: ConnectionManager, config: ConnectionConfig) -> Any:
        database = lite_shared.at(config.address)
        return _LiteStrategy(database) if database else bare_strategy(self, config)

    ConnectionConfig.from_uri = staticmethod(from_uri)
    ConnectionManager._get_strategy = strategy_of
    ConnectionConfig.rag_app_shares = True


def is_opened_alone(uri: str) -> bool:
    """Whether another program in this process opened a database before rag_app was imported."""
    manager = sys.modules.get("milvus_lite.server_manager")
    servers = manager.server_manager_instance._servers if manager else {}
    return os.path.abspath(uri) in servers  # noqa: PTH100 - as Milvus Lite makes it


class _Forked:
    """Stands for the channel that a forked process cannot use: gRPC would wait for ever."""

    def __getattr__(self, name: str) -> Any:
        raise LiteFailure(
            VectorStoreError(
                "a forked process cannot use the Milvus Lite database that its parent uses",
                'start processes with multiprocessing\'s "spawn"',
            )
        )


def _after_fork() -> None:
    for handler in _handlers:
        handler._stub = _Forked()
    # Else new clients of the child would be given the parent's connections.
    connection_manager.ConnectionManager._instance = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
