"""From a model's name or path to a local, verified Hugging Face checkpoint."""

from edgewhisper.checkpoints.store import Checkpoint, fetch, open_checkpoint, resolve

__all__ = ["Checkpoint", "fetch", "open_checkpoint", "resolve"]
