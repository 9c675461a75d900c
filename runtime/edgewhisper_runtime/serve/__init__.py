"""A transcription server that speaks OpenAI's API.

Its modules need the libraries of the extra `serve`; the command line imports them when it serves.
"""
