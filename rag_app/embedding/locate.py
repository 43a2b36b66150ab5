"""Where a model lies: a folder, a package, the hub's cache, or nowhere."""

from rag_app.config.model_files import PACKAGE_PREFIX, model_folder
from rag_app.errors import ModelUnavailableError
from rag_app.install import pip_install


def locate_source(model: str, key: str = "embedding.model") -> str:
    """Return the folder or the hub name that a model is loaded from.

    Parameters
    ----------
    model
        A hub name, a folder, or "package:NAME".
    key
        The key that says so, for the message.

    Raises
    ------
    ModelUnavailableError
        If it is neither a folder nor a package here, nor looks like a hub name.
    """
    folder = model_folder(model)
    if folder is not None and folder.is_dir():
        return str(folder)
    if model.startswith(PACKAGE_PREFIX):
        package = model.removeprefix(PACKAGE_PREFIX)
        shipped = f", or {pip_install('offline')}" if key == "embedding.model" else ""
        raise ModelUnavailableError(
            f"{key} is {model!r}, and the package {package!r} is not installed or has no model in "
            "it",
            f"pip install {package.replace('_', '-')}{shipped}",
        )
    if model.startswith((".", "/", "~")):
        raise ModelUnavailableError(
            f"{key} is {model!r}, and there is no such folder",
            "name the folder that holds the model's config.json, or a hub name",
        )
    return model


def locate_model(model: str, key: str = "embedding.model") -> str:
    """Say where a model would be loaded from, without loading it; arguments as `locate_source`'s.

    Raises
    ------
    ModelUnavailableError
        If it is neither a folder nor a package here, nor looks like a hub name.
    """
    source = locate_source(model, key)
    if model_folder(model) is not None:
        return f"in {source}"
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(source, "config.json"), str)
    return "in the hub's cache" if cached else "not here yet, the first use downloads it"
