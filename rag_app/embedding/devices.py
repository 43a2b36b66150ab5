"""Which device torch computes on, and in which type; torch is imported when it is asked."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rag_app.errors import ConfigError, first_line

if TYPE_CHECKING:
    import torch


def choose_device(asked: str) -> str:
    """Resolve "auto", and check that a device which was named is there.

    Raises
    ------
    ConfigError
        If it is not.
    """
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"embedding.device is {asked!r}, which this machine does not have: {first_line(error)}",
            'set embedding.device = "auto"',
        ) from None
    return asked


def choose_dtype(asked: str, device: str) -> "torch.dtype":
    """Resolve "auto": bfloat16 where it is computed natively; elsewhere it is slower."""
    import torch

    if asked != "auto":
        dtype: torch.dtype = getattr(torch, asked)
        return dtype
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    has_amx: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if device == "cpu" and has_amx() else torch.float32
