"""The inputs and outputs of the graphs that EdgeWhisper exports, and the sizes that they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from edgewhisper_runtime.bundle.fields import between, parse

PARTS = ("key", "value")
ROWS = "rows."  # before the name of a tensor in the decoder's file: an input that takes rows of it
STEPS = "cross_steps"  # of the codes of the audio's keys and values
_FLOAT, _INT8, _INT32, _INT64 = (f"tensor({name})" for name in ("float", "int8", "int32", "int64"))


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model, and whether the audio's keys and values are codes."""

    mels: Annotated[int, between(1, 256)]
    layers: Annotated[int, between(1, 128)]  # of the decoder
    heads: Annotated[int, between(1, 128)]  # of a decoder layer
    width: Annotated[int, between(1, 1024)]  # of a head
    room: Annotated[int, between(1, 4096)]  # positions of text
    vocabulary: Annotated[int, between(1, 2**20)]
    codes: bool


_Signature = dict[str, tuple[str, list[int | None]]]  # type and sizes by name; None: any size


def read(encoder: Any, decoder: Any) -> Sizes:
    """Return the sizes of two opened graphs.

    Raises ValueError or LookupError unless inputs and outputs are those of EdgeWhisper's export.
    """
    features, encoded = _signature(encoder.get_inputs()), _signature(encoder.get_outputs())
    inputs, outputs = _signature(decoder.get_inputs()), _signature(decoder.get_outputs())
    _, heads, _, width = encoded["cross_key_0"][1]
    sizes = parse(
        Sizes,
        {
            "mels": features["features"][1][1],
            "layers": len(encoded) // 2,
            "heads": heads,
            "width": width,
            "room": inputs["past_key_0"][1][2],
            "vocabulary": outputs["logits"][1][1],
            "codes": STEPS in encoded,
        },
    )
    signatures = {
        "encoder's inputs": (features, {"features": (_FLOAT, [None, sizes.mels, None])}),
        "encoder's outputs": (encoded, _cross(sizes)),
        "decoder's inputs": (
            {name: value for name, value in inputs.items() if not name.startswith(ROWS)},
            _decoder_inputs(sizes),
        ),
        "decoder's outputs": (outputs, _decoder_outputs(sizes)),
    }
    for what, (actual, expected) in signatures.items():
        if wrong := sorted(
            name
            for name in actual.keys() | expected.keys()
            if actual.get(name) != expected.get(name)
        ):
            raise ValueError(f"the {what} {', '.join(wrong)[:200]} are missing or of another shape")
    return sizes


def _signature(values: Any) -> _Signature:
    return {
        value.name: (value.type, [size if isinstance(size, int) else None for size in value.shape])
        for value in values
    }


def _layered(sizes: Sizes, prefix: str, kind: str, positions: int | None) -> _Signature:
    shape = [None, sizes.heads, positions, sizes.width]
    return {f"{prefix}_{part}_{n}": (kind, shape) for n in range(sizes.layers) for part in PARTS}


def _cross(sizes: Sizes) -> _Signature:
    if not sizes.codes:
        return _layered(sizes, "cross", _FLOAT, None)
    steps: list[int | None] = [None, 2 * sizes.layers, sizes.heads * sizes.width]
    return {**_layered(sizes, "cross", _INT8, None), STEPS: (_FLOAT, steps)}


def _decoder_inputs(sizes: Sizes) -> _Signature:
    return {
        "tokens": (_INT64, [None, None]),
        "positions": (_INT64, [None, None]),
        "last_position": (_INT32, [None]),
        "length": (_INT32, []),
        "scored": (_INT64, [None]),
        "audio_last": (_INT32, [None]),
        "audio_length": (_INT32, []),
        **_cross(sizes),
        **_layered(sizes, "past", _FLOAT, sizes.room),
    }


def _decoder_outputs(sizes: Sizes) -> _Signature:
    queries: list[int | None] = [None, None, sizes.heads * sizes.width]
    return {
        "logits": (_FLOAT, [None, sizes.vocabulary]),
        **{f"query_{n}": (_FLOAT, queries) for n in range(sizes.layers)},
        **_layered(sizes, "present", _FLOAT, sizes.room),
        **_layered(sizes, "present_cross", _INT8 if sizes.codes else _FLOAT, None),
    }
