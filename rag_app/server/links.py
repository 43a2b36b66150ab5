"""Links to passages: ``/documents/{id}#node-{node}``, which whoever has them can open for a while.

A browser that follows a citation sends no key. So a link says whose key it was made for and until
when, and is signed with what the server keeps of that key: it ends with the key.
"""

import hashlib
import hmac
import time
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from rag_app.schema import Source
from rag_app.server.keys import Key

LIFETIME = 7 * 24 * 3600
"""Seconds: an answer is read again within a week."""


@dataclass(frozen=True)
class Links:
    """Makes the links of one answer.

    Attributes
    ----------
    base
        The server's own URL, without a slash at its end.
    """

    base: str
    collection: str
    key: Key

    def to(self, source: Source) -> str:
        """Return the link to a source's passage."""
        document = source.document_id or source.id
        query = {"model": self.collection}
        # Without keys whoever reaches the server may open the page anyway.
        if self.key.digest:
            until = int(time.time()) + LIFETIME
            query |= {
                "key": self.key.name,
                "until": str(until),
                "signature": sign(self.key, self.collection, document, until),
            }
        path = quote(document, safe="")
        return f"{self.base}/documents/{path}?{urlencode(query)}#node-{quote(source.id, safe='')}"


def sign(key: Key, collection: str, document: str, until: int) -> str:
    """Return the signature of a link."""
    # A mark that stands in none of them: else the end of one could pass for the start of the next.
    message = "\0".join([collection, document, str(until)]).encode("utf-8", "surrogatepass")
    return hmac.digest(key.digest.encode(), message, hashlib.sha256).hex()


def is_signed(key: Key, collection: str, document: str, until: int, signature: str) -> bool:
    """Whether a link was made for this key, and may still be used."""
    expected = sign(key, collection, document, until)
    # As bytes: `compare_digest` refuses texts that are not ASCII, and a query may hold anything.
    return time.time() <= until and hmac.compare_digest(
        expected.encode(), signature.encode("utf-8", "surrogatepass")
    )
