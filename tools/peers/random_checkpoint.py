"""A checkpoint of a real architecture with random weights, whose text is always the same tokens.

For the size and speed of a model whose weights are not at hand. Every weight is random but the
decoder's positions: each is the embedding of the token that comes next, so much larger than
anything else that each engine's own decoding finds the same text, greedy or with beams, in float32
or in int8, and ends after it.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

from edgewhisper.checkpoints import Checkpoint

# Width, heads and layers of each half, of Radford et al. 2022, table 1; "smallest" is for trials.
ARCHITECTURES = {
    "smallest": (64, 2, 2), "tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12),
}  # fmt: skip
_OWN = ("config.json", "source.json")  # of a checkpoint: its sizes, and where it is from
_PROMPT = 4  # tokens before a text in English without timestamps
_STRENGTH = 20.0  # of a position, in standard deviations of what layers add to it
_WORD = re.compile(r" [a-z]{3,8}")


def sizes(architecture: str) -> dict[str, int]:
    """Return what an architecture sets in a checkpoint's configuration."""
    width, heads, layers = ARCHITECTURES[architecture]
    halves = {
        f"{half}_{key}": value
        for half in ("encoder", "decoder")
        for key, value in (("layers", layers), ("attention_heads", heads), ("ffn_dim", 4 * width))
    }
    return {"d_model": width, "num_hidden_layers": layers, **halves}


def make(like: Checkpoint, architecture: str, tokens: int, target: Path) -> str:
    """Write a checkpoint with the tokenizer of another, which is multilingual; return its text."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from edgewhisper_runtime.text.tokens import Tokenizer

    config = WhisperConfig.from_pretrained(like.path)
    config.update(sizes(architecture))
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config).eval()
    tokenizer = Tokenizer(like.path / "tokenizer.json")
    words = {
        token: text
        for token in range(tokenizer.end_of_text)
        if _WORD.fullmatch(text := tokenizer.piece(token).decode(errors="replace"))
    }
    chosen = random.Random(0).sample(sorted(words), tokens)  # noqa: S311 # no secret
    with torch.no_grad():
        decoder = model.model.decoder
        torch.nn.init.normal_(decoder.embed_tokens.weight, std=config.init_std)  # zeros as well
        following = [*chosen, *[tokenizer.end_of_text] * config.max_target_positions]
        rows = decoder.embed_tokens.weight[following[: config.max_target_positions - _PROMPT + 1]]
        positions = decoder.embed_positions.weight
        positions[_PROMPT - 1 :] = _STRENGTH * rows / rows.std()
        for parameter in model.parameters():  # as OpenAI's are
            parameter.copy_(parameter.half().float())
    shutil.rmtree(target, ignore_errors=True)
    model.save_pretrained(target)
    for path in like.path.iterdir():
        if path.suffix in {".json", ".txt"} and path.name not in _OWN:
            shutil.copyfile(path, target / path.name)
    settings = target / "generation_config.json"
    content = json.loads(settings.read_text())
    content.pop("alignment_heads", None)  # of another architecture
    settings.write_text(json.dumps(content))
    return "".join(words[token] for token in chosen).strip()
