"""Which device torch computes on, and in which type; torch is imported when it is asked."""

import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rag_app.errors import ConfigError, first_line

if TYPE_CHECKING:
    import torch


def has_gpu() -> bool:
    """Whether torch computes on a GPU here; torch (2 s) is only asked where one may be."""
    if sys.platform == "darwin":
        may_be = platform.machine() == "arm64"
    else:
        files = ("/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, that of WSL's Windows
        may_be = any(Path(file).exists() for file in files) or bool(shutil.which("nvidia-smi"))
    return may_be and not version("torch").endswith("+cpu") and choose_device("auto") != "cpu"


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
    # Private to torch: another version may not have it.
    has_amx: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if device == "cpu" and has_amx() else torch.float32
