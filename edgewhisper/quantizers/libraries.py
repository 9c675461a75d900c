"""The quantization libraries that come with EdgeWhisper, as entry points name them."""

from edgewhisper.quantizers import Library

_HERE = "edgewhisper.quantizers"

BITSANDBYTES = Library(
    adapter=f"{_HERE}.bitsandbytes",
    imports="bitsandbytes",
    install="pip install 'edgewhisper[bitsandbytes]'",
    color="#bc6c25",
)
EDGEWHISPER = Library(
    adapter=f"{_HERE}.edgewhisper",
    imports="torch",
    install="pip install 'edgewhisper[edgewhisper]'",
    color="#6d2e8b",
)
HQQ = Library(
    adapter=f"{_HERE}.hqq",
    imports="hqq",
    install="pip install 'edgewhisper[hqq]'",
    color="#6a994e",
)
PYTORCH = Library(
    adapter=f"{_HERE}.pytorch",
    imports="torch",
    install="pip install 'edgewhisper[pytorch]'",
    color="#d1495b",
    no_integers="pytorch's int8 layers round their inputs in a way that no kernel does",
)
QUANTO = Library(
    adapter=f"{_HERE}.quanto",
    imports="optimum.quanto",
    install="pip install 'edgewhisper[quanto]'",
    color="#2e86ab",
)
