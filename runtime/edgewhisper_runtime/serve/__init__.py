"""A transcription server that speaks OpenAI's API.

`command` imports without the libraries of the extra `serve`, the other modules need them.
"""
