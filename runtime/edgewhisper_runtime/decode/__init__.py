"""From encoded sound to tokens: the loop, its rules, and what speaks against a text."""
