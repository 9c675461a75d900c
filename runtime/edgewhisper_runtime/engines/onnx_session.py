"""Sessions of ONNX Runtime on the CPU: their options, and its errors as EdgeWhisper's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper_runtime.errors import BundleError, MissingLibraryError
from edgewhisper_runtime.measure import machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Enough for a window of 30 s in whisper-small; none of it is in use before it is written to.
_ARENA = 64 << 20  # bytes
_LARGEST_REST = 1 << 20  # bytes that may lie idle behind what a piece is used for


def session_options(threads: int | None) -> Any:
    """Return the session options of every graph; by default, one thread for each usable core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # ONNX Runtime's own default looks at neither CPU affinity nor a container's quota.
    options.intra_op_num_threads = threads or machine.usable_cores()
    options.inter_op_num_threads = 1
    # The exporter chose the fused operators by measurement; more fusion makes them slower.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # Without VNNI, x86 adds 8-bit products in 16 bits and may saturate: this is exact, but slower.
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Threads that spin for longer save no time, and beside other work they take more of it:
    # docs/results/spinning.md.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "20")
    # Encoder and decoder have separate threads: those of one must not spin while the other runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Clips differ in length, so a memory plan would hardly ever be used again.
    options.enable_mem_pattern = False
    # In the order of the file, in which a value is needed soon after it is there. By default the
    # encoder computes the keys and values of all layers before it rounds the first.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    _register_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@cache
def _register_arena() -> None:
    """Register one arena for all sessions that ask for it, those of the program do not.

    An arena of a session's own grows by pieces of 1, 2, 4 and more MB, each too small for what is
    next; windows of all lengths made it grow by 50 MB, measured on whisper-base.
    """
    import onnxruntime

    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    sizes = {"initial_chunk_size_bytes": _ARENA, "max_dead_bytes_per_chunk": _LARGEST_REST}
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(sizes))


def open_session(model: Path | bytes, threads: int | None) -> Any:
    """Open the file of a model, or its bytes."""
    import onnxruntime

    return onnxruntime.InferenceSession(
        model, session_options(threads), providers=["CPUExecutionProvider"]
    )


def open_graph(path: Path, threads: int | None) -> Any:
    """Open a bundle's graph; raise BundleError where ONNX Runtime refuses it."""
    try:
        return open_session(path, threads)
    except ImportError as error:
        raise MissingLibraryError(
            f"{path} needs onnxruntime: pip install onnxruntime ({error})."
        ) from error
    except Exception as error:  # its own exception classes have no common base
        raise BundleError(f"ONNX Runtime cannot open {path} ({error}). {_remedy(error)}") from error


def run(session: Any, binding: Any) -> None:
    """Run a session; raise BundleError for a graph that fails although its inputs fit."""
    try:
        session.run_with_iobinding(binding)
    except Exception as error:  # as above
        message = f"ONNX Runtime cannot run the bundle ({error}). {_remedy(error)}"
        raise BundleError(message) from error


def bind(method: Any, name: str, array: NDArray[Any]) -> None:
    """Bind an array by its address, so it must live on: `method` is a binding's."""
    method(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _remedy(error: Exception) -> str:
    """Return what to do: ONNX Runtime tells a lack of memory by text alone."""
    if any(words in str(error) for words in ("bad_alloc", "Failed to allocate memory")):
        return "There is not enough memory: free some, or take a smaller model or batch."
    return "Build again."
