"""Which files of a checkpoint hold its weights, and whether they are those of a whole model."""

from __future__ import annotations

from pathlib import Path

from edgewhisper.checkpoints.architecture import in_python, read_json
from edgewhisper.hashes import HashCache
from edgewhisper_runtime.errors import CheckpointError

_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
_ADAPTER = "adapter_config.json"  # of PEFT


def refuse_adapter(directory: Path) -> None:
    """Raise CheckpointError for an adapter, which is no model without the one it adapts."""
    for path in (directory / _ADAPTER, directory / "adapter_model" / _ADAPTER):
        if path.is_file() and not (directory / _WEIGHTS).is_file():
            adapter = str(path.parent)
            base = in_python(read_json(path).get("base_model_name_or_path"))
            raise CheckpointError(
                f"{adapter} holds an adapter (LoRA, PEFT) of {base}, not a whole model. Merge them "
                "and name the directory that this writes: model = PeftModel.from_pretrained("
                f"WhisperForConditionalGeneration.from_pretrained({base}), {adapter!r})"
                ".merge_and_unload(); model.save_pretrained('merged'); "
                f"WhisperTokenizerFast.from_pretrained({base}).save_pretrained('merged')."
            )


def weights(directory: Path) -> list[Path]:
    """Return the files that transformers takes the weights from: one, or those of an index.

    Raises CheckpointError where one is missing, and where the weights are pickles.
    """
    if (whole := directory / _WEIGHTS).is_file():
        return [whole]
    if (index := directory / _INDEX).is_file():
        places = read_json(index).get("weight_map")
        names = set(places.values()) if isinstance(places, dict) else set()
        files = [directory / name for name in sorted(map(str, names)) if Path(name).name == name]
        if not names or len(files) < len(names):
            raise CheckpointError(f"{index} names no files of this directory. Save it again.")
        for file in files:
            if not file.is_file():
                raise CheckpointError(f"{file} is missing, and {_INDEX} names it. Copy it too.")
        return files
    pickled = ", ".join(sorted(p.name for p in directory.glob("*.bin")))
    reason = f"only {pickled}, which could run code when opened" if pickled else "none"
    raise CheckpointError(
        f"{directory} has no safetensors weights ({reason}). Save the model again with "
        "transformers' save_pretrained, which writes safetensors."
    )


def hash_weights(directory: Path, hashes: HashCache) -> dict[str, str]:
    """Return the SHA-256 of each weight file by its name."""
    return {file.name: hashes.digest([file]) for file in weights(directory)}
