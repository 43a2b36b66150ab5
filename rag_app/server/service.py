"""What all routes share: a `RagApp` for each collection, the keys, and the room for questions."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from rag_app.app import RagApp
from rag_app.config.sections import Config
from rag_app.doctor import PINGS, examine
from rag_app.errors import ClosedError, ConfigError, InputError, RagAppError
from rag_app.load import override
from rag_app.milvus.admin import CollectionInfo, list_collections
from rag_app.server.admission import Admission, Allowances
from rag_app.server.errors import RequestError
from rag_app.server.ingests import Ingests
from rag_app.server.keys import Key, KeyFile
from rag_app.server.metrics import Metrics
from rag_app.server.pdf_pages import PdfPages
from rag_app.server.readiness import Readiness
from rag_app.server.threads import in_thread
from rag_app.server.uploads import Uploads

OPENERS = 4
"""Collections that are opened at the same time; more wait for their turn."""

_LOG = logging.getLogger("rag_app.server")


class Service:
    """The parts of one server. Belongs to one event loop.

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
        self.pdf_pages = PdfPages()
        self.ready = Readiness(self.ping)
        self._root = RagApp(config)
        self._opened: dict[str, RagApp] = {}
        self._opening: dict[str, asyncio.Future[RagApp | None]] = {}
        self._openers = ThreadPoolExecutor(OPENERS, thread_name_prefix="rag_app-opening")
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def has_llm(self) -> bool:
        """Whether answers are written by a model, and not quoted."""
        return self.config.llm.backend != "extractive"

    async def app(
        self,
        collection: str,
        key: Key,
        *,
        to_write: bool = False,
        missing: "Missing | None" = None,
    ) -> RagApp:
        """Return the app of a collection that a key may use; opened when first asked for.

        It is opened once for all who wait for it. Who gives up, at a deadline or because the client
        has gone, leaves at once.

        Parameters
        ----------
        to_write
            Whether the configured collection will do that is not there yet.
        missing
            Makes the error of a collection that is not there; None: `not_found`.

        Raises
        ------
        RequestError
            404 if there is no such collection, or the key may not use it: which others there are is
            none of its business.
        RagAppError
            As `RagApp.store`.
        """
        missing = missing or not_found
        if not key.may_use(collection):
            raise missing(collection)
        if collection in self._opened:
            return self._opened[collection]
        if to_write and collection == self.config.vector_store.collection:
            return self._root
        opening = self._opening.get(collection)
        if opening is None:
            # Threads of their own: collections that hang do not hold up who asks the others.
            loop = asyncio.get_running_loop()
            opening = loop.run_in_executor(self._openers, self._open, collection)
            self._opening[collection] = opening
            opening.add_done_callback(lambda ended: self._has_opened(collection, ended))
        # Shielded: one who gives up does not take it from the others.
        app = await asyncio.shield(opening)
        if app is None:
            raise missing(collection)
        return app

    def _has_opened(self, collection: str, ended: "asyncio.Future[RagApp | None]") -> None:
        del self._opening[collection]
        # Whoever waited has been told why; where all have gone, asyncio would complain.
        if not ended.cancelled():
            ended.exception()

    def _open(self, collection: str) -> RagApp | None:
        """Open a collection; None: there is none of this name."""
        app = self._root
        if collection != self.config.vector_store.collection:
            try:
                config = override(self.config, {"vector_store.collection": collection})
            # What is no name of a collection in the configuration is none that could be there.
            except ConfigError:
                return None
            app = RagApp(
                config,
                llm=self._root.llm if self.has_llm else None,
                embedder=self._root.embedder,
            )
        try:
            _ = app.store
        except ClosedError:
            raise
        except InputError:
            return None
        with self._lock:
            if not self._is_closed:
                self._opened[collection] = app
                return app
        # What was opened while the server ended would stay open.
        app.close()
        raise ClosedError

    async def collections(self, key: Key) -> Sequence[CollectionInfo]:
        """Return the collections that can be searched here and that a key may use."""
        infos = await in_thread(lambda: list_collections(self.config))
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
            self._is_closed = True
            apps, self._opened = list(self._opened.values()), {}
        # Nobody waits for what hangs.
        self._openers.shutdown(wait=False, cancel_futures=True)
        for app in apps:
            if app is not self._root:
                app.close()
        # Last: the others use its models.
        self._root.close()


Missing = Callable[[str], RequestError]
"""Makes the error of a collection that is not there, or not for a key to know of."""


def not_found(collection: str) -> RequestError:
    """Return the error of a model."""
    return RequestError(
        404, f"there is no model (collection) {collection!r}", code="model_not_found", param="model"
    )


def vector_store_not_found(collection: str) -> RequestError:
    """Return the same of a vector store."""
    return RequestError(
        404, f"there is no vector store {collection!r}", code="vector_store_not_found"
    )
