"""What a quantized model loses, without references: its divergence from fp32 on fp32's own text.

The loss of a recipe is the mean Kullback-Leibler divergence per token, in nats, of the model's
distribution over the vocabulary from fp32's, where both have read the same speech and the text
that fp32 gives it so far. It is far less noisy than a word error rate: a few utterances will do.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from edgewhisper.evaluation import calibration
from edgewhisper.evaluation.datasets import Utterance
from edgewhisper.progress import Progress
from edgewhisper.recipes import Recipe
from edgewhisper_runtime.bundle import TOKENIZER, atomic, decode_json, parse
from edgewhisper_runtime.measure import machine

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from edgewhisper.checkpoints import Checkpoint
    from edgewhisper.workspace import Workspace


class Losses:
    """Losses of recipes of the edgewhisper library, each measured once and kept in the workspace.

    Layers' inputs are measured on `calibrated`, whatever speech the recipes name, losses on
    `measured`: speech in English, of which at most 30 s are read, encoded at their own length.
    """

    def __init__(
        self,
        workspace: Workspace,
        checkpoint: Checkpoint,
        calibrated: Sequence[Utterance],
        measured: Sequence[Utterance],
        progress: Progress,
    ) -> None:
        self._measurer = partial(_Measurer, checkpoint, calibrated, measured, progress)
        audio = [workspace.hashes.digests([u.path for u in of]) for of in (calibrated, measured)]
        versions = machine.versions(["edgewhisper", "edgewhisper-runtime", "torch", "transformers"])
        identity = json.dumps([checkpoint.weights, audio, versions], sort_keys=True)
        name = f"{checkpoint.name}-losses-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
        self._path = workspace.evaluations / name / "losses.json"
        self._known: dict[str, float] = {}
        with suppress(OSError, ValueError):  # none yet, or damaged: measured again
            self._known = parse(dict[str, float], decode_json(self._path.read_text("utf-8")))

    def of(self, recipe: Recipe) -> float:
        """Return the loss of a recipe."""
        weights = {part: recipe.weights_of(part) for part in recipe.scope}
        key = ", ".join(f"{p} {w.dtype} {w.grain} {w.rounding}" for p, w in weights.items())
        if key not in self._known:
            self._known[key] = self._model.loss(recipe)
            atomic.write_text(self._path, json.dumps(self._known, indent=1) + "\n")
        return self._known[key]

    @cached_property
    def _model(self) -> _Measurer:
        return self._measurer()


@dataclass(frozen=True)
class _Text:
    """A text of fp32's, and what led to it.

    `features` float32 [1, mels, frames] of the audio, and their encoding; `tokens` int64 [n],
    prompt and text; `expected` [m, vocabulary], the log probabilities where each token of the text
    and its end are chosen.
    """

    features: NDArray[Any]
    encoded: Tensor
    tokens: NDArray[Any]
    expected: Tensor


class _Measurer:
    """The float model, its texts of some speech, and its layers' inputs on other speech."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        calibrated: Sequence[Utterance],
        measured: Sequence[Utterance],
        progress: Progress,
    ) -> None:
        import numpy as np

        from edgewhisper.backend import TorchBackend
        from edgewhisper.quantizers.activations import measure
        from edgewhisper.quantizers.scope import part_of
        from edgewhisper_runtime.audio import SAMPLE_RATE, features
        from edgewhisper_runtime.decode.window import WindowDecoder
        from edgewhisper_runtime.options import PLAIN
        from edgewhisper_runtime.text.tokens import Tokenizer

        self._model = checkpoint.load()
        names = [name for name, _ in self._model.named_modules() if part_of(name)]
        calibrate = partial(calibration.run, self._model, checkpoint, [*calibrated], progress)
        self._inputs = measure(self._model, names, calibrate)
        self._backend = TorchBackend(self._model)
        tokenizer, settings = Tokenizer(checkpoint.path / TOKENIZER), checkpoint.settings()
        decoder = WindowDecoder(self._backend, tokenizer, settings, adaptive=True)
        request = decoder.request(replace(PLAIN, language="en"), timestamps=False)
        self._texts = []
        for done, utterance in enumerate(measured, 1):
            window = utterance.samples()[: features.WINDOW_SECONDS * SAMPLE_RATE]
            text = decoder.decode(window, request).tokens[: decoder.max_text_tokens]
            seconds = len(window) / SAMPLE_RATE + settings.adaptive.margin
            even = 2 * math.ceil(seconds * features.FRAMES_PER_SECOND / 2)
            frames = min(even, features.WINDOW_FRAMES)
            mels = features.log_mel(window, settings.mels, frames)[None]
            encoded = self._backend.encode(mels)
            tokens = np.array([*tokenizer.prompt("en"), *text])
            expected = self._distributions(encoded, tokens, len(text) + 1)
            self._texts.append(_Text(mels, encoded, tokens, expected))
            progress("texts of fp32", done, len(measured))

    def loss(self, recipe: Recipe) -> float:
        """Return the loss of a recipe in nats per token."""
        from torch.nn.functional import kl_div

        outside = ("decoder", "output", "embedding")
        in_encoder = not all(part.startswith(outside) for part in recipe.scope)
        total = 0.0
        with self._quantized(recipe):
            for text in self._texts:
                encoded = self._backend.encode(text.features) if in_encoder else text.encoded
                quantized = self._distributions(encoded, text.tokens, len(text.expected))
                total += float(kl_div(quantized, text.expected, reduction="sum", log_target=True))
        return total / sum(len(text.expected) for text in self._texts)

    def _distributions(self, encoded: Tensor, tokens: NDArray[Any], last: int) -> Tensor:
        """Return log probabilities [last, vocabulary] after the last tokens."""
        import torch

        logits = self._backend.verify(tokens, self._backend.start(encoded))
        return torch.from_numpy(logits[-last:]).log_softmax(-1)

    @contextmanager
    def _quantized(self, recipe: Recipe) -> Iterator[None]:
        """Put the quantized layers of a recipe into the model, and take them out again."""
        import torch

        from edgewhisper.quantizers import edgewhisper

        edgewhisper.check(self._model, recipe)
        with torch.no_grad():
            layers = dict(edgewhisper.replacements(self._model, recipe, self._inputs))
        exact = {name: self._model.get_submodule(name) for name in layers}
        try:
            for name, layer in layers.items():
                self._model.set_submodule(name, layer)
            yield
        finally:
            for name, layer in exact.items():
                self._model.set_submodule(name, layer)
