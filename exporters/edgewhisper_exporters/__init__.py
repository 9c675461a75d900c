"""Exports: a variant turned into a file that another engine runs. None is written yet.

May import torch and `edgewhisper_runtime`, never `edgewhisper`.
"""
