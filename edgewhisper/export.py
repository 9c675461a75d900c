"""A staged variant turned into what another engine runs: ONNX Runtime, or PyTorch alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgewhisper import quantizers
from edgewhisper.backend import CONFIG, WEIGHTS, TorchBackend, load_model
from edgewhisper.quantizers import census
from edgewhisper.recipes import Recipe
from edgewhisper.staging import alone, new_directory
from edgewhisper_exporters import onnx, pytorch
from edgewhisper_exporters.eligibility import Format
from edgewhisper_exporters.layers import Layer, Model
from edgewhisper_runtime import bundle
from edgewhisper_runtime.engines import pytorch_model
from edgewhisper_runtime.engines.pytorch import FILE
from edgewhisper_runtime.errors import BundleError, RecipeError
from edgewhisper_runtime.measure import machine

if TYPE_CHECKING:
    from torch import nn
    from transformers import WhisperForConditionalGeneration


# What of a variant no export keeps: the exported file has it.
_REPLACED = {WEIGHTS, CONFIG}
_INHERITED = ("name", "backend", "libraries", "recipe", "settings", "model", "calibration")
_EXPORTERS: dict[Format, ModuleType] = {"onnx": onnx, "pytorch": pytorch}


def export(
    variant: Path, target: Path, to_format: Format, audio_context: bundle.AudioContext
) -> Path:
    """Export a variant into the directory `target`; reuse an export of the same files.

    `audio_context` is what the export runs with unless told otherwise. Raises RecipeError where a
    layer is quantized in a way that the format cannot hold, QuantizationError where the export
    does not hold what the recipe says.
    """
    manifest = bundle.verify(variant)
    made_of = {name: file.sha256 for name, file in manifest.files.items()}
    exporter = _EXPORTERS[to_format]
    made_by = bundle.ExportRecord(to_format, exporter.LAYOUT, made_of)
    libraries = manifest.libraries | machine.versions(exporter.DISTRIBUTIONS)
    known = replace(
        manifest,
        backend=to_format,
        libraries=libraries,
        audio_context=audio_context,
        export=made_by,
    )
    with alone(target):
        if (found := _export_of(target, known)) is None:
            _make(variant, target, known, made_by)
        elif found.audio_context != audio_context:
            bundle.write_manifest(target, replace(found, audio_context=audio_context))
    return target


def _make(
    variant: Path, target: Path, known: bundle.Manifest, made_by: bundle.ExportRecord
) -> None:
    network = load_model(variant, known)
    with new_directory(target) as staging:
        graphs = {}
        if made_by.format == "pytorch":
            config = network.config
            heads = {
                "encoder": config.encoder_attention_heads,
                "decoder": config.decoder_attention_heads,
            }
            backend = TorchBackend(network)
            pytorch.export(variant / WEIGHTS, heads, backend, config.num_mel_bins, staging)
        else:
            rounds = known.recipe.activations.dtype == "int8"
            model = to_model(network, quantizers.adapter(known.recipe.library))
            graphs = onnx.export(model, "int8" if rounds else "float32", staging)
        for name in known.files.keys() - _REPLACED:
            (staging / name).write_bytes((variant / name).read_bytes())
        rows = take_census(staging, known)
        recipe = Recipe.from_record(known.recipe, known.name)
        if recipe.quantizes:
            census.check_scope(rows, recipe)
        finished = replace(
            known,
            census=rows,
            files=bundle.describe_files(staging),
            export=replace(made_by, graphs=graphs),
        )
        bundle.write_manifest(staging, finished)
        bundle.verify(staging)


def take_census(directory: Path, manifest: bundle.Manifest) -> tuple[bundle.CensusRow, ...]:
    """Count every layer of a variant's or an export's files, loaded as its backend loads them."""
    if manifest.backend == "onnx":
        return census.take_onnx_census([directory / onnx.ENCODER, directory / onnx.DECODER])
    adapter = quantizers.adapter(manifest.recipe.library)
    if manifest.backend == "pytorch":
        return census.take_census(pytorch_model.read(directory / FILE), adapter.describe)
    return census.take_census(load_model(directory, manifest), adapter.describe)


def to_model(network: WhisperForConditionalGeneration, adapter: quantizers.Adapter) -> Model:
    """Return a loaded variant's layers; integers where it is quantized.

    Raises RecipeError where a layer is quantized in a way that has no grid of integers.
    """
    layers = {}
    embedding = network.get_submodule("model.decoder.embed_tokens")
    for name, module in network.named_modules():
        quantized = adapter.describe(module)
        grid = adapter.grid(module)
        if quantized is not None and quantized.bytes == 0:  # shares another's tensor
            continue
        if quantized is not None and grid is None:
            raise RecipeError(f"{name} is {quantized.dtype}, which no export carries over.")
        weight = getattr(module, "weight", None)
        if grid is None and weight is None:
            continue
        if grid is None and name == "proj_out" and weight is getattr(embedding, "weight", None):
            continue
        layers[name] = Layer(_floats(weight) if grid is None else grid, _bias(module))
    config = network.config
    return Model(layers, (config.encoder_attention_heads, config.decoder_attention_heads))


def _bias(module: nn.Module) -> Any:
    bias = getattr(module, "bias", None)
    return None if bias is None else _floats(bias)


def _floats(tensor: Any) -> Any:
    return tensor.detach().float().numpy()


def _export_of(target: Path, known: bundle.Manifest) -> bundle.Manifest | None:
    """Return the manifest of an intact export of the same files, made by the same means."""
    try:
        found = bundle.verify(target)
    except BundleError:
        return None
    same = (
        found.export is not None
        and replace(found.export, graphs={}) == known.export
        and all(getattr(found, one) == getattr(known, one) for one in _INHERITED)
    )
    return found if same else None
