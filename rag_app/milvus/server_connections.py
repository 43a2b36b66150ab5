"""Connections to Milvus servers, which pymilvus keeps until the process ends.

Clients of one server share a connection (five file handles and threads of gRPC's own), and closing
the last of them does not close it.
"""

import gc

from pymilvus.client.connection_manager import ConnectionManager


def close_unused(uri: str) -> None:
    """Close the connections to a server that no client uses any more."""
    manager = ConnectionManager.get_instance()
    if all(each.config.uri != uri for each in list(manager._registry.values())):
        return
    # A store that an ingest opened for itself refers to itself, and its client counts until then.
    gc.collect()
    with manager._lock:
        unused = {
            key: each
            for key, each in manager._registry.items()
            if each.config.uri == uri and not each.has_clients
        }
        for key in unused:
            del manager._registry[key]  # else the next client of this server is given a closed one
    for each in unused.values():
        each.strategy.close(each)
