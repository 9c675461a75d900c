"""Corrupted bundles made of an intact ONNX bundle, by kind.

Hashes are made again after each change, as whoever changes a bundle can do; so loading has to be
safe by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRAPHS = ("encoder.onnx", "decoder.onnx")
TOKENIZER, MANIFEST = "tokenizer.json", "manifest.json"
SEED = 0
Change = Callable[[Any], object]  # changes what a file was parsed into
Edit = Callable[[Path], None]  # changes a copy of the bundle; its files may be hard links
VALUES: list[Any] = [
    None, True, -1, 0, 2**31, 2**70, 1e308, "", "\x1b[31m\r\n\u202e", "a" * 10**5, [], {}, [[]],
    {"x": {}}, "../x", 3.5,
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One corrupted bundle: its kind, a name of its own, and what is done to a copy."""

    kind: str
    name: str
    edit: Edit


def cases(bundle: Path) -> list[Case]:
    """Return all cases for an intact bundle, always the same ones."""
    made = [
        *_manifest_values(bundle), *_manifest_bytes(bundle), *_tokenizers(bundle),
        *_graphs(bundle), *_files(),
    ]  # fmt: skip
    assert len({(case.kind, case.name) for case in made}) == len(made)
    return made


def copy(bundle: Path, case: Case, target: Path) -> None:
    """Make the case's bundle at `target`; list its files anew where the manifest still can."""
    target.mkdir()
    for path in bundle.iterdir():
        os.link(path, target / path.name)
    case.edit(target)


def write(path: Path, content: bytes) -> None:
    """Replace a file, which may be a hard link to the intact one, and its entry in the manifest."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    if path.name != MANIFEST:
        manifest = json.loads((path.parent / MANIFEST).read_text())
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][path.name] = {"bytes": len(content), "sha256": digest}
        write(path.parent / MANIFEST, json.dumps(manifest).encode())


def _change_json(name: str, change: Change) -> Edit:
    def edit(directory: Path) -> None:
        content = json.loads((directory / name).read_text())
        change(content)
        write(directory / name, json.dumps(content).encode())

    return edit


def _paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value but those in long lists, of which the first stands for all."""
    if path:
        yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _paths(value, (*path, key))
    elif isinstance(content, list) and content:
        yield from _paths(content[0], (*path, 0))


def _parent(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        content = content[key]
    return content


def _manifest_values(bundle: Path) -> Iterator[Case]:
    generator = random.Random(SEED)
    paths = [
        path
        for path in _paths(json.loads((bundle / MANIFEST).read_text()))
        if "operators" not in path and "operators_loaded" not in path
    ]
    for path in paths:
        shown = ".".join(map(str, path))
        for value in generator.sample(VALUES, 6 if path[0] == "settings" else 3):
            edit = _change_json(
                MANIFEST, lambda c, p=path, v=value: _parent(c, p).__setitem__(p[-1], v)
            )
            yield Case("manifest value", f"{shown} = {json.dumps(value)[:40]}", edit)
        removed = _change_json(MANIFEST, lambda c, p=path: _parent(c, p).pop(p[-1]))
        yield Case("manifest key missing", shown, removed)
    for path, value in {
        ("settings", "mels"): 200_000,
        ("settings", "max_tokens"): 2**31,
        ("settings", "suppress"): [2**31],
        ("settings", "suppress_first"): [51_865],
        ("settings", "alignment_heads"): [[9, 9]],
        ("settings", "adaptive"): {"margin": 1e9},
        ("unknown",): {"x": 1},
    }.items():
        edit = _change_json(
            MANIFEST, lambda c, p=path, v=value: _parent(c, p).__setitem__(p[-1], v)
        )
        yield Case("manifest value", f"{'.'.join(path)} is {value}", edit)


def _manifest_bytes(bundle: Path) -> Iterator[Case]:
    intact = (bundle / MANIFEST).read_bytes()
    contents = {
        "empty": b"", "cut": intact[: len(intact) // 2], "null": b"null", "list": b"[]",
        "text": b'"x"', "number": b"1" * 10**5, "deep list": b"[" * 10**5, "UTF-16":
        intact.decode().encode("utf-16"), "not UTF-8": b'{"schema": "\xff"}', "NaN": b"NaN",
        "deep table": b'{"a":' * 10**5, "large": b" " * 2**25 + intact, "zeros": bytes(10**4),
        "two": intact + intact, "byte order mark": b"\xef\xbb\xbf" + intact,
    }  # fmt: skip
    for name, content in contents.items():
        yield Case("manifest bytes", name, lambda d, c=content: write(d / MANIFEST, c))
    generator = random.Random(SEED)
    for number in range(25):
        changed = bytearray(intact)
        for _ in range(3):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        content = bytes(changed)
        yield Case("manifest bytes", f"{number}", lambda d, c=content: write(d / MANIFEST, c))


def _tokenizers(bundle: Path) -> Iterator[Case]:
    edits: dict[str, Change] = {}
    for value in VALUES:
        shown = json.dumps(value)[:30]
        edits |= {
            f"added_tokens = {shown}": lambda c, v=value: c.update(added_tokens=v),
            f"model = {shown}": lambda c, v=value: c.update(model=v),
            f"vocab = {shown}": lambda c, v=value: c["model"].update(vocab=v),
            f"id of ! = {shown}": lambda c, v=value: c["model"]["vocab"].update({"!": v}),
            f"added id = {shown}": lambda c, v=value: c["added_tokens"][0].update(id=v),
            f"added content = {shown}": lambda c, v=value: c["added_tokens"][0].update(content=v),
            f"added entry = {shown}": lambda c, v=value: c["added_tokens"].append(v),
        }
    for name in ("<|notimestamps|>", "<|startoftranscript|>", "<|endoftext|>", "<|transcribe|>"):
        for token in (3, 2**20, 2**31):

            def move(content: Any, name: str = name, token: int = token) -> None:
                for entry in content["added_tokens"]:
                    if entry["content"] == name:
                        entry["id"] = token

            edits[f"{name} is {token}"] = move
    for name, change in edits.items():
        yield Case("tokenizer", name, _change_json(TOKENIZER, change))
    for name, content in {"empty": b"", "large": b" " * 2**26, "deep": b"[" * 10**6}.items():
        yield Case("tokenizer", name, lambda d, c=content: write(d / TOKENIZER, c))


def _graphs(bundle: Path) -> Iterator[Case]:
    import onnx

    for file in GRAPHS:
        model = onnx.load(bundle / file)
        size = (bundle / file).stat().st_size
        # The values of tensors come last: before them are names, numbers and shapes.
        rest = size - sum(len(tensor.raw_data) for tensor in model.graph.initializer)
        yield from _graph_edits(file, model)
        for number in range(45):
            edit = _change_bytes(file, number, rest if number % 3 == 0 else size)
            yield Case("graph bytes", f"{file} {number}", edit)
        for cut in (0, 1, 1000, size // 2, size - 1):
            yield Case("graph bytes", f"{file} cut at {cut}", _change_file(file, slice(cut)))
        yield Case("graph bytes", f"{file} without its start", _change_file(file, slice(1, None)))


def _change_bytes(file: str, seed: int, before: int) -> Edit:
    def edit(directory: Path) -> None:
        generator = random.Random(seed)
        content = bytearray((directory / file).read_bytes())
        for _ in range(1 + seed % 4):
            content[generator.randrange(before)] = generator.randrange(256)
        write(directory / file, bytes(content))

    return edit


def _change_file(file: str, part: slice) -> Edit:
    return lambda directory: write(directory / file, (directory / file).read_bytes()[part])


def _graph_edits(file: str, model: Any) -> Iterator[Case]:
    """Yield changes of a parsed graph: inputs and outputs, nodes, stored tensors."""
    generator = random.Random(SEED)
    for edits in (
        _interface_edits(model),
        _node_edits(model, generator),
        _tensor_edits(model, generator),
    ):
        for name, change in edits.items():
            yield Case("graph", f"{file} {name}", _change_graph(file, change))


def _change_graph(file: str, change: Change) -> Edit:
    def edit(directory: Path) -> None:
        import onnx

        model = onnx.load(directory / file)
        change(model.graph)
        write(directory / file, model.SerializeToString())

    return edit


def _interface_edits(model: Any) -> dict[str, Change]:
    def resize(value: Any, size: int) -> None:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_value:
                dimension.dim_value = size

    edits: dict[str, Change] = {}
    for side in ("input", "output"):
        for i in range(min(len(getattr(model.graph, side)), 6)):
            value = f"{side} {i}"
            for size in (1, 2**31, 2**40):
                edits[f"sizes of {value} are {size}"] = lambda g, s=side, i=i, n=size: resize(
                    getattr(g, s)[i], n
                )
            edits |= {
                f"{value} is renamed": lambda g, s=side, i=i: setattr(
                    getattr(g, s)[i], "name", "\x1b[31mx"
                ),
                f"{value} is int8": lambda g, s=side, i=i: setattr(
                    getattr(g, s)[i].type.tensor_type, "elem_type", 3
                ),
                f"{value} is missing": lambda g, s=side, i=i: getattr(g, s).pop(i),
            }
    return edits


def _node_edits(model: Any, generator: random.Random) -> dict[str, Change]:
    def attributes(graph: Any) -> Iterator[Any]:
        return (attribute for node in graph.node for attribute in node.attribute)

    def set_attributes(graph: Any, value: int) -> None:
        for attribute in attributes(graph):
            if attribute.type == 2:  # one integer
                attribute.i = value

    def set_lists(graph: Any, value: int) -> None:
        for attribute in attributes(graph):
            attribute.ints[:] = [value] * len(attribute.ints)

    edits: dict[str, Change] = {}
    for i in generator.sample(range(len(model.graph.node)), 12):
        for operator in ("Tile", "ConstantOfShape", "Neg"):
            edits[f"node {i} is {operator}"] = lambda g, i=i, o=operator: setattr(
                g.node[i], "op_type", o
            )
        edits[f"node {i} is missing"] = lambda g, i=i: g.node.pop(i)
        edits[f"node {i} takes itself"] = lambda g, i=i: g.node[i].input.__setitem__(
            0, g.node[i].output[0]
        )
    for value in (-1, 0, 7, 2**31, 2**62):
        edits[f"attributes are {value}"] = lambda g, v=value: set_attributes(g, v)
        edits[f"lists of attributes are {value}"] = lambda g, v=value: set_lists(g, v)
    return edits


def _tensor_edits(model: Any, generator: random.Random) -> dict[str, Change]:
    def resize(tensor: Any, size: int) -> None:
        tensor.dims[:] = [size, *tensor.dims[1:]]

    def set_numbers(graph: Any, value: int) -> None:
        for tensor in graph.initializer:
            if tensor.data_type == 7:  # int64
                count = len(tensor.raw_data) // 8
                tensor.raw_data = value.to_bytes(8, "little", signed=True) * count

    edits: dict[str, Change] = {}
    for i in generator.sample(range(len(model.graph.initializer)), 10):
        for size in (0, 1, 2**40):
            edits[f"tensor {i} has {size} rows"] = lambda g, i=i, n=size: resize(
                g.initializer[i], n
            )
        edits |= {
            f"tensor {i} is empty": lambda g, i=i: setattr(g.initializer[i], "raw_data", b""),
            f"tensor {i} is float": lambda g, i=i: setattr(g.initializer[i], "data_type", 1),
        }
    for value in (-5, 0, 3, 2**20, 2**31, 2**62):
        edits[f"numbers are {value}"] = lambda g, v=value: set_numbers(g, v)
    return edits


def _files() -> Iterator[Case]:
    def replaced(name: str, make: Callable[[Path], object]) -> Edit:
        def edit(directory: Path) -> None:
            (directory / name).rename(directory.with_name(f"{directory.name}-{name}"))
            make(directory / name)

        return edit

    for name in (MANIFEST, TOKENIZER, *GRAPHS, "LICENSE"):
        yield Case("file", f"{name} is missing", replaced(name, lambda _: None))
        yield Case("file", f"{name} is a directory", replaced(name, Path.mkdir))
        yield Case("file", f"{name} is a FIFO", replaced(name, os.mkfifo))
        yield Case("file", f"{name} is a link to a file", replaced(
            name, lambda p: p.symlink_to(p.parent.with_name(f"{p.parent.name}-{p.name}"))
        ))  # fmt: skip
        yield Case("file", f"{name} is a link to a device", replaced(
            name, lambda p: p.symlink_to("/dev/zero")
        ))  # fmt: skip
        yield Case("file", f"{name} is a link to itself", replaced(name, lambda p: p.symlink_to(p)))
    for name in ("surplus", "a\nb", "\x1b[31m", "x" * 255, "..."):
        yield Case("file", f"surplus {name[:9]!r}", lambda d, n=name: (d / n).touch())
    yield Case("file", "surplus directory", lambda d: (d / "more").mkdir())
    yield Case("file", "surplus FIFO", lambda d: os.mkfifo(d / "fifo"))
