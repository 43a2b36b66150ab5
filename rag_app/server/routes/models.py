"""``/v1/models``: a model for each collection that the key may use."""

from typing import Any

from fastapi import APIRouter

from rag_app.milvus.admin import CollectionInfo
from rag_app.server.access import Reader, Served
from rag_app.server.service import not_found

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
async def list_models(key: Reader, service: Served) -> dict[str, Any]:
    """List the collections that can be asked."""
    async with service.admission.working():
        infos = await service.collections(key)
    return {"object": "list", "data": [_model(info) for info in infos]}


@router.get("/{model}")
async def show_model(model: str, key: Reader, service: Served) -> dict[str, Any]:
    """Show one of them."""
    async with service.admission.working():
        infos = await service.collections(key)
    for info in infos:
        if info.name == model:
            return _model(info)
    raise not_found(model)


def _model(info: CollectionInfo) -> dict[str, Any]:
    return {
        "id": info.name,
        "object": "model",
        "created": 0,  # Milvus does not say
        "owned_by": "rag_app",
        "rag": {"made_by": info.made_by},
    }
