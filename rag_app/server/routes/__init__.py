"""The routes, a file per family; each turns a request into calls of the rest and back.

A module here is served as soon as it is there: it has a `router`.
"""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from fastapi import APIRouter


def all_routers() -> Iterator[APIRouter]:
    """Yield the router of every module here."""
    for module in iter_modules(__path__):
        yield import_module(f"{__name__}.{module.name}").router
