"""What all routes share: a `RagApp` for each collection, the keys, and the room for questions."""

import logging
import threading
from collections.abc import Callable, Sequence

from starlette.concurrency import run_in_threadpool

from rag_app.app import RagApp
from rag_app.config.sections import Config
from rag_app.doctor import PINGS, examine
from rag_app.errors import ConfigError, InputError, RagAppError
from rag_app.load import override
from rag_app.milvus.admin import CollectionInfo, list_collections
from rag_app.server.admission import Admission, Allowances
from rag_app.server.errors import RequestError
from rag_app.server.ingests import Ingests
from rag_app.server.keys import Key, KeyFile
from rag_app.server.metrics import Metrics
from rag_app.server.readiness import Readiness
from rag_app.server.uploads import Uploads

_LOG = logging.getLogger("rag_app.server")


class Service:
    """The parts of one server.

    Embedder, reranker and LLM are made once and shared by all collections; a collection is opened
    when it is first asked for.

    Parameters
    ----------
    config
        From `rag_app.load_config`; its collection is the first of those that are served.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.keys = KeyFile(config.server.keys_file)
        self.allowances = Allowances()
        self.admission = Admission(config.server)
        self.metrics = Metrics(self.admission)
        self.ingests = Ingests()
        self.uploads = Uploads(config.server, int(config.documents.max_file_size_mb * 1e6))
        self.ready = Readiness(self.ping)
        self._root = RagApp(config)
        self._apps = {config.vector_store.collection: self._root}
        self._lock = threading.Lock()

    @property
    def has_llm(self) -> bool:
        """Whether answers are written by a model, and not quoted."""
        return self.config.llm.backend != "extractive"

    async def app(self, collection: str, *, to_write: bool = False) -> RagApp:
        """Return the app of a collection.

        Parameters
        ----------
        to_write
            Whether the configured collection will do that is not there yet.

        Raises
        ------
        RequestError
            404 if there is no such collection.
        RagAppError
            As `RagApp.store`.
        """
        return await run_in_threadpool(self._app, collection, to_write=to_write)

    def _app(self, collection: str, *, to_write: bool = False) -> RagApp:
        with self._lock:
            app = self._apps.get(collection)
        if app is None:
            try:
                config = override(self.config, {"vector_store.collection": collection})
            # What is no name of a collection in the configuration is none that could be there.
            except ConfigError:
                raise not_found(collection) from None
            app = RagApp(
                config,
                llm=self._root.llm if self.has_llm else None,
                embedder=self._root.embedder,
            )
        if not (to_write and collection == self.config.vector_store.collection):
            try:
                _ = app.store
            except InputError:
                raise not_found(collection) from None
        with self._lock:
            # Opened without the lock, so that nobody waits for another's
            # collection: of two the first stays.
            return self._apps.setdefault(collection, app)

    async def collections(self, key: Key) -> Sequence[CollectionInfo]:
        """Return the collections that can be searched here and that a key may use."""
        infos = await run_in_threadpool(list_collections, self.config)
        return [info for info in infos if info.searchable and key.may_use(info.name)]

    def ping(self) -> dict[str, str]:
        """Ask every part for a sign of life, those of `doctor` among them; return what fails.

        Nothing was ingested yet: that is no failure, files can be uploaded.
        """
        failed = {}
        for check in examine(self.config, PINGS):
            if not check.ok:
                _LOG.warning("%s: %s", check.name, check.finding)
                failed[check.name] = "failed"
        parts: dict[str, Callable[[], object]] = {
            "collection": lambda: self._root.store.count(),
            "embedder": lambda: self._root.embedder,
        }
        if self.has_llm:
            parts["llm"] = lambda: self._root.llm
        for name, part in parts.items():
            try:
                part()
            except InputError as error:
                _LOG.info("%s: %s", name, error)
            except RagAppError as error:
                _LOG.warning("%s: %s", name, error)
                failed[name] = "failed"
        return failed

    def prefix_cache(self) -> tuple[int, int]:
        """Return how many prompt tokens the model looked up in its prefix cache, and found."""
        return self._root.llm.prefix_cache() if self.has_llm else (0, 0)

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            apps, self._apps = list(self._apps.values()), {}
        # The root last, whose models the others use.
        for app in reversed(apps):
            app.close()


def not_found(collection: str) -> RequestError:
    """Return the error of a collection that is not there, or not for this key to know of."""
    return RequestError(
        404, f"there is no model (collection) {collection!r}", code="model_not_found", param="model"
    )


def vector_store_not_found(collection: str) -> RequestError:
    """Return the same of a vector store."""
    return RequestError(
        404, f"there is no vector store {collection!r}", code="vector_store_not_found"
    )
