"""ONNX files are read before an engine sees them, and refused for what no bundle has."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, save

from edgewhisper_runtime.engines import onnx_file
from edgewhisper_runtime.errors import BundleError


def model(weight: TensorProto | None = None, nodes: list[Any] | None = None, **parts: Any) -> Any:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy")
    weight = weight or numpy_helper.from_array(np.zeros((300, 3), np.float16), "w")
    nodes = nodes or [helper.make_node("Add", ["x", "x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], **parts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.onnx"


def test_operators_and_tensors_are_counted(path: Path) -> None:
    nodes = [helper.make_node("Gelu", ["x"], ["a"], domain="com.microsoft"),
             helper.make_node("Add", ["a", "a"], ["y"])]  # fmt: skip
    save(model(nodes=nodes), path)
    contents = onnx_file.read(path)
    assert contents.operators == {"Gelu": 1, "Add": 1}
    tensor = contents.tensors["w"]
    assert (tensor.dtype, tensor.shape, tensor.bytes) == ("float16", (300, 3), 1800)


def test_weights_in_another_file_are_refused(path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    save(model(weight), path)
    with pytest.raises(BundleError, match=r"m\.onnx keeps weights in another file"):
        onnx_file.read(path)


def test_external_data_in_an_attribute_is_refused(path: Path) -> None:
    hidden = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    hidden.external_data.add(key="location", value="weights.bin")
    save(model(nodes=[helper.make_node("Constant", [], ["y"], value=hidden)]), path)
    with pytest.raises(BundleError, match="another file"):
        onnx_file.read(path)


def test_tensors_in_other_kinds_of_attributes_are_seen_too(path: Path) -> None:
    hidden = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    hidden.external_data.add(key="location", value="weights.bin")
    node = helper.make_node("Constant", [], ["y"])
    node.attribute.add(name="values", type=9).tensors.append(hidden)
    save(model(nodes=[node]), path)
    with pytest.raises(BundleError, match="another file"):
        onnx_file.read(path)
    sparse = helper.make_sparse_tensor(hidden, numpy_helper.from_array(np.arange(3)), [9])
    node = helper.make_node("Constant", [], ["y"], sparse_value=sparse)
    save(model(nodes=[node]), path)
    with pytest.raises(BundleError, match="sparse"):
        onnx_file.read(path)


def test_a_field_that_other_readers_take_for_another_is_refused(path: Path) -> None:
    """C++ keeps 32 bits of a field's key: with one above them, data elsewhere would pass unseen."""
    weight = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    content = model(weight).SerializeToString()
    hidden = b"\xea\x80\x80\x80\x10\x00"  # field 13 and bit 32, of no length
    stored = weight.SerializeToString()
    longer = bytes([0x2A, len(stored) + len(hidden)]) + stored + hidden
    changed = content.replace(bytes([0x2A, len(stored)]) + stored, longer)
    size = content.index(b"\x3a") + 1  # of the graph, one byte here
    grown = bytes([content[size] + len(hidden)])
    assert content[size] + len(hidden) < 128
    path.write_bytes(changed[:size] + grown + changed[size + 1 :])
    with pytest.raises(BundleError, match="impossible field number"):
        onnx_file.read(path)


def test_foreign_operators_functions_and_subgraphs_are_refused(path: Path) -> None:
    save(model(nodes=[helper.make_node("Run", ["x"], ["y"], domain="evil")]), path)
    with pytest.raises(BundleError, match="operator Run of 'evil'"):
        onnx_file.read(path)
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 21)],
    )  # fmt: skip
    save(model(functions=[function]), path)
    with pytest.raises(BundleError, match="operators of its own"):
        onnx_file.read(path)
    branch = helper.make_graph([], "b", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    save(model(nodes=[node]), path)
    with pytest.raises(BundleError, match="subgraph in If"):
        onnx_file.read(path)


@pytest.mark.parametrize("name", ["N", "K", "block_size", "bits"])
@pytest.mark.parametrize("value", [0, -32])
def test_blocks_without_a_size_are_refused(path: Path, name: str, value: int) -> None:
    sizes = {"N": 3, "K": 32, "block_size": 32, "bits": 4} | {name: value}
    node = helper.make_node("MatMulNBits", ["x", "w"], ["y"], domain="com.microsoft", **sizes)
    save(model(nodes=[node]), path)
    with pytest.raises(BundleError, match="MatMulNBits has the attributes"):
        onnx_file.read_exported(path)


@pytest.mark.parametrize("content", [b"", b"\x00", b"not a model", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BundleError, match="not an ONNX file"):
        onnx_file.read(path)


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 400), byte=st.integers(0, 255), length=st.integers(1, 2200))
def test_damage_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    content = bytearray(model().SerializeToString())
    content[position % len(content)] = byte
    path.write_bytes(content[:length])
    with suppress(BundleError):
        onnx_file.read(path)
