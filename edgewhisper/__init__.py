"""EdgeWhisper's host toolkit: quantize Whisper, prove what it cost, ship it."""
