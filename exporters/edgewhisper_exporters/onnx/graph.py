"""An ONNX graph under construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgewhisper_runtime.engines.onnx_signature import ROWS
from edgewhisper_runtime.errors import QuantizationError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, ValueInfoProto

OPSET = 21
MICROSOFT = "com.microsoft"  # ONNX Runtime's fused and quantized operators
_IR_VERSION = 10
_LARGEST = 2**31 - 1  # bytes of a protobuf message


class Graph:
    """Collects nodes and initializers; every tensor is named after its content."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, NDArray[Any]] = {}
        self._casts: dict[str, str] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        """Declare an input of a NumPy dtype; a string in the shape names a dynamic axis."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(
        self, name: str, value: str, shape: Sequence[int | str], dtype: Any = np.float32
    ) -> None:
        """Make a value of a NumPy dtype an output with this name."""
        if value != name:
            self.op("Identity", value, output=name)
        self._outputs.append(_value(name, dtype, shape))

    def constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        """Store an array under a name, once; raise ValueError if another array has the name."""
        array = np.asarray(array)
        stored = self._initializers.setdefault(name, array)
        if stored is not array and not np.array_equal(stored, array):
            raise ValueError(f"two constants are called {name}")
        return name

    def rows(self, name: str) -> str:
        """Return an input [batch, n, ...] for the rows of a constant that belong to the tokens.

        The runtime reads them from the file. If the graph looked them up itself, the engine would
        keep the constant twice: as stored, and packed for the matrix product.
        """
        array = self._initializers[name]
        return self.input(f"{ROWS}{name}", array.dtype, ["batch", "n", *array.shape[1:]])

    def floats(self, name: str, array: NDArray[np.floating]) -> str:
        """Store floats, as float16 where that loses nothing; return them as float32.

        Raises ValueError as `constant` does.

        OpenAI published the weights as float16. The engine widens them when it loads the file.
        """
        wide = array.astype(np.float32)
        narrow = wide.astype(np.float16)
        if not np.array_equal(narrow.astype(np.float32), wide):
            return self.constant(name, wide)
        stored = self.constant(name, narrow)
        if name not in self._casts:
            self._casts[name] = self.op("Cast", stored, to=1)
        return self._casts[name]

    def op(
        self,
        kind: str,
        *inputs: str,
        domain: str = "",
        output: str | Sequence[str] | None = None,
        **attributes: Any,
    ) -> str:
        """Append a node; return the name of its first output. An empty input is left out."""
        from onnx import helper

        name = f"{kind}_{len(self._nodes)}"
        outputs = [output or name] if output is None or isinstance(output, str) else list(output)
        self._nodes.append(
            helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes)
        )
        return outputs[0]

    def fused(
        self, kind: str, *inputs: str, output: str | Sequence[str] | None = None, **attributes: Any
    ) -> str:
        """Append an operator of ONNX Runtime's own domain."""
        return self.op(kind, *inputs, domain=MICROSOFT, output=output, **attributes)

    def model(self) -> ModelProto:
        """Return the finished model; raise QuantizationError if no file can hold it."""
        from onnx import helper, numpy_helper

        # the size after loading, when the engine holds and rewrites it in float32
        size = sum(
            array.nbytes * (2 if array.dtype == np.float16 else 1)
            for array in self._initializers.values()
        )
        if size > _LARGEST:
            raise QuantizationError(
                f"the {self.name} takes {size / 1e9:.1f} GB, and an ONNX file holds "
                f"{_LARGEST / 1e9:.1f}. Quantize it, or ship the variant itself: --export none."
            )
        initializers = [
            numpy_helper.from_array(np.asarray(a, order="C"), n)
            for n, a in self._initializers.items()
        ]
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, initializers)
        model: ModelProto = helper.make_model(
            graph,
            producer_name="edgewhisper",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        )
        return model


def _value(name: str, dtype: Any, shape: Sequence[int | str]) -> ValueInfoProto:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)
