"""Export of a staged variant for another engine: ONNX Runtime, or PyTorch without transformers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewhisper import quantizers
from edgewhisper.backend import CONFIG, WEIGHTS, TorchBackend, load_model
from edgewhisper.quantizers import census
from edgewhisper.recipes import Recipe
from edgewhisper.staging import alone, new_directory
from edgewhisper.workspace import Workspace
from edgewhisper_exporters import eligibility
from edgewhisper_exporters.layers import Layer, Model, Variant
from edgewhisper_runtime import bundle
from edgewhisper_runtime.bundle import Artefact
from edgewhisper_runtime.errors import BundleError, RecipeError
from edgewhisper_runtime.measure import machine

if TYPE_CHECKING:
    from torch import nn
    from transformers import WhisperForConditionalGeneration


# Files of a variant that an export replaces by its own.
_REPLACED = {WEIGHTS, CONFIG}
_INHERITED = (
    "name", "backend", "libraries", "recipe", "settings", "model", "calibration", "audio_context",
)  # fmt: skip


def export(workspace: Workspace, variant: Artefact, to_format: str) -> Artefact:
    """Export a variant; reuse an export of the same files.

    Raises RecipeError where a layer is quantized in a way that the format cannot hold,
    QuantizationError where the export does not hold what the recipe says.
    """
    manifest = variant.manifest
    target = workspace.exports / to_format / variant.path.name
    made_of = {name: file.sha256 for name, file in manifest.files.items()}
    exporter = eligibility.find(to_format)
    record = bundle.ExportRecord(to_format, exporter.layout, made_of)
    libraries = manifest.libraries | machine.versions(exporter.distributions)
    planned = replace(
        manifest,
        backend=to_format,
        libraries=libraries,
        export=record,
    )
    with alone(target):
        exported = _export_of(workspace, target, planned)
        return exported or _make(workspace, variant, target, planned, record)


def _make(
    workspace: Workspace,
    variant: Artefact,
    target: Path,
    planned: bundle.Manifest,
    record: bundle.ExportRecord,
) -> Artefact:
    network = load_model(variant.path, planned)
    with new_directory(target) as staging:
        source = Variant(
            weights=variant.path / WEIGHTS,
            network=network,
            backend=TorchBackend(network),
            recipe=bundle.to_json(planned.recipe),
            model=partial(to_model, network, quantizers.adapter(planned.recipe.library)),
        )
        graphs = eligibility.find(record.format).export(source, staging)
        for name in planned.files.keys() - _REPLACED:
            (staging / name).write_bytes((variant.path / name).read_bytes())
        rows = take_census(staging, planned)
        recipe = Recipe.from_record(planned.recipe, planned.name)
        if recipe.quantizes:
            census.check_scope(rows, recipe)
        finished = replace(
            planned,
            census=rows,
            files=bundle.describe_files(staging),
            export=replace(record, graphs=graphs),
        )
        bundle.write_manifest(staging, finished)
    return workspace.written(target, finished)


def take_census(directory: Path, manifest: bundle.Manifest) -> tuple[bundle.CensusRow, ...]:
    """Count every layer of a variant's or an export's files, loaded as its backend loads them."""
    describe = quantizers.adapter(manifest.recipe.library).describe
    if manifest.export is None:
        return census.take_census(load_model(directory, manifest), describe)
    stored = eligibility.find(manifest.export.format).stored(directory)
    if isinstance(stored, Iterable):
        return census.take_onnx_census(stored)
    return census.take_census(stored, describe)


def to_model(network: WhisperForConditionalGeneration, adapter: quantizers.Adapter) -> Model:
    """Return a loaded variant's layers, quantized ones as integers.

    Raises RecipeError for a quantized layer that has no grid of integers.
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


def _export_of(workspace: Workspace, target: Path, planned: bundle.Manifest) -> Artefact | None:
    """Return the export at `target` if it is intact and would be the same if made again."""
    try:
        exported = workspace.open(target)
    except BundleError:
        return None
    manifest = exported.manifest
    same = (
        manifest.export is not None
        and replace(manifest.export, graphs={}) == planned.export
        and all(getattr(manifest, name) == getattr(planned, name) for name in _INHERITED)
    )
    return exported if same else None
