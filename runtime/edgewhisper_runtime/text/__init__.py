"""Tokens and words, languages, subtitles and file formats."""
