"""Exports: a variant turned into a file that another engine runs.

May import torch and `edgewhisper_runtime`, never `edgewhisper`.

layers.py        what an exporter is given: layers with float weights or a library's own integers
eligibility.py   which recipes can be exported to what, and why others cannot; what a format is
formats.py       the formats that come with EdgeWhisper
plugins.py       what is registered by entry points
onnx/            the encoder's and the decoder's graph for ONNX Runtime, and their checks
pytorch.py       a variant's own tensors, which the runtime's PyTorch engine runs
"""
