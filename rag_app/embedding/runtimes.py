"""The runtimes of compiled models: what each needs installed, how it stores and opens a model.

A runtime hands back a function of token ids and attention mask (int64, texts by tokens) to vectors
(float32, texts by dimensions). Importing this module imports none of them.
"""

import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rag_app.errors import ModelUnavailableError
from rag_app.install import pip_install

Infer = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]

COMPILERS = ("onnx", "onnxscript")
"""What torch's export to ONNX is made of."""

IDS, MASK, VECTOR = "input_ids", "attention_mask", "vector"
"""Names of the compiled model's inputs and of its output."""


class NotCompiledError(ModelUnavailableError):
    """A model that is here, and could not be compiled this time."""


class CannotCompileError(NotCompiledError):
    """A model that is here, and that a runtime will never run."""


class Runtime(ABC):
    """One of the libraries that run a compiled model on the processor."""

    name: ClassVar[str]
    """As ``embedding.runtime`` has it; also the extra that installs it."""
    package: ClassVar[str]
    """The library that runs the model."""

    @property
    def is_installed(self) -> bool:
        """Whether a compiled model can be run."""
        return find_spec(self.package) is not None

    @property
    def package_version(self) -> str:
        """Version of the library."""
        return version(self.package)

    def require(self, *packages: str) -> None:
        """Check that the library, and other packages, are installed.

        Raises
        ------
        ModelUnavailableError
            With the pip command, if one is not.
        """
        for package in (self.package, *packages):
            if find_spec(package) is None:
                raise ModelUnavailableError(
                    f'embedding.runtime is "{self.name}", and {package} is not installed',
                    f'{pip_install(self.name)}, or set embedding.runtime = "torch"',
                )

    @property
    def can_compile(self) -> bool:
        """Whether everything is installed that compiling for it needs."""
        return all(find_spec(name) is not None for name in (self.package, *COMPILERS))

    @abstractmethod
    def choose_dtype(self, asked: str) -> str:
        """Resolve "auto" to the type that this processor is fastest in."""

    def computes_in(self, dtype: str) -> bool:
        """Whether a model can be run in this type."""
        return self.choose_dtype(dtype) == dtype or dtype == "auto"

    @abstractmethod
    def store(self, onnx_file: Path, folder: Path) -> None:
        """Write an exported model into a folder, as `open` wants it."""

    @abstractmethod
    def open(self, folder: Path, dtype: str) -> Infer:
        """Make a stored model ready to run, from any thread."""


class OpenVino(Runtime):
    """Intel's OpenVINO."""

    name = "openvino"
    package = "openvino"

    _HINTS: ClassVar = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}

    def choose_dtype(self, asked: str) -> str:
        """Resolve "auto": bfloat16 only on AMX.

        OpenVINO itself also takes it on processors that have AVX-512's bfloat16 instructions and no
        AMX, where it took 1.5 times the processor time of float32 (Xeon, model 207).
        """
        if asked != "auto":
            return asked
        return "bfloat16" if has_amx() else "float32"

    def store(self, onnx_file: Path, folder: Path) -> None:
        """Write OpenVINO's own format, with the weights as they are."""
        openvino = _import_openvino()
        model = openvino.Core().read_model(onnx_file)
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)

    def open(self, folder: Path, dtype: str) -> Infer:
        """Compile for this processor; takes half a second."""
        openvino = _import_openvino()
        compiled = openvino.Core().compile_model(
            folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": self._HINTS[dtype]}
        )
        request = compiled.create_infer_request()
        lock = threading.Lock()  # a request is one run at a time

        def infer(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
            with lock:
                # Shared, not copied: nobody changes the inputs before the run is over.
                vectors = request.infer({IDS: ids, MASK: mask}, share_inputs=True)[0]
                return np.array(vectors, dtype=np.float32)

        return infer


class Onnx(Runtime):
    """Microsoft's onnxruntime."""

    name = "onnx"
    package = "onnxruntime"

    def choose_dtype(self, asked: str) -> str:
        """Return float32: its kernels for processors have nothing less (`check_combinations`)."""
        return "float32"

    def store(self, onnx_file: Path, folder: Path) -> None:
        """Move the exported files as they are."""
        for file in onnx_file.parent.iterdir():
            file.rename(folder / file.name)

    def open(self, folder: Path, dtype: str) -> Infer:
        """Open a session; takes a quarter of a second."""
        # Read at the import; without it, usage is reported to Microsoft (onnxruntime's Privacy.md).
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: it warns of GPUs that it does not find
        # Threads that wait do not spin: 29% less processor time, and none more by the clock.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session: Any = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

        def infer(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
            (vectors,) = session.run([VECTOR], {IDS: ids, MASK: mask})
            return np.asarray(vectors, dtype=np.float32)

        return infer


RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (OpenVino(), Onnx())}
"""By the name that ``embedding.runtime`` has, the fastest first (docs/embeddings.md)."""


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report each import to Intel.

    It does without that package where it is not installed.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def has_amx() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware, where the system tells."""
    try:
        return " amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False
