"""Processors by name: texts as real machines show them, shortened to what matters."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewhisper_runtime.measure import processor
from machines import lay

ARM64 = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: {implementer}
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3

"""
OLD, DOTPROD = "fp asimd evtstrm crc32 cpuid", "fp asimd evtstrm aes crc32 atomics asimdhp asimddp"
GRAVITON3 = f"{DOTPROD} sve asimdfhm i8mm bf16"
X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9R14 Processor
flags\t\t: fpu sse2 avx2 fma f16c avx512f avx512_vnni avx512_bf16

"""
ARM32 = """processor\t: 0
model name\t: ARMv7 Processor rev 4 (v7l)
Features\t: half thumb fastmult vfp edsp neon vfpv3
CPU implementer\t: 0x41
CPU part\t: 0xd03

Hardware\t: BCM2835
Model\t\t: Raspberry Pi 3 Model B Plus Rev 1.3
"""


def cores(*kinds: tuple[int, str, str, str]) -> str:
    """Return /proc/cpuinfo of cores: how many of an implementer and part, with which features."""
    blocks = [kind for kind in kinds for _ in range(kind[0])]
    return "".join(
        ARM64.format(number=n, implementer=implementer, part=part, features=features)
        for n, (_, implementer, part, features) in enumerate(blocks)
    )


@pytest.mark.parametrize(
    ("cpuinfo", "board", "name", "isa"),
    [
        (
            cores((4, "0x41", "0xd08", OLD)) + "Revision\t: c03111\nModel\t\t: Raspberry Pi 4\n",
            "Raspberry Pi 4 Model B Rev 1.1\0",
            "Raspberry Pi 4 Model B Rev 1.1 (4 x ARM Cortex-A72)",
            ("asimd",),
        ),
        (
            cores((4, "0x41", "0xd0b", DOTPROD)),
            "Raspberry Pi 5 Model B Rev 1.0\0",
            "Raspberry Pi 5 Model B Rev 1.0 (4 x ARM Cortex-A76)",
            ("asimd", "asimddp"),
        ),
        (
            cores((2, "0x41", "0xd40", GRAVITON3)),
            "",
            "2 x ARM Neoverse-V1",
            ("asimd", "asimddp", "i8mm", "bf16", "sve"),
        ),
        (  # a board with two kinds of cores
            cores((2, "0x41", "0xd05", DOTPROD), (1, "0x41", "0xd0b", DOTPROD)),
            "Radxa ROCK 5B",
            "Radxa ROCK 5B (2 x ARM Cortex-A55, 1 x ARM Cortex-A76)",
            ("asimd", "asimddp"),
        ),
        (  # what not all cores have cannot be used
            cores((1, "0x41", "0xd04", OLD), (1, "0x41", "0xd0b", DOTPROD)),
            "",
            "1 x ARM Cortex-A35, 1 x ARM Cortex-A76",
            ("asimd",),
        ),
        (  # Apple's virtual machines show no part
            cores((4, "0x61", "0x000", DOTPROD)),
            "linux,dummy-virt\0",
            "linux,dummy-virt (4 x Apple part 0x000)",
            ("asimd", "asimddp"),
        ),
        (cores((1, "0x77", "0xabc", OLD)), "", "1 x implementer 0x77 part 0xabc", ("asimd",)),
        (ARM32, "Raspberry Pi 3\0", "Raspberry Pi 3 (1 x ARM Cortex-A53)", ()),
        (
            X86,
            "",
            "AMD EPYC 9R14 Processor",
            ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16"),
        ),
    ],
    ids=["Pi 4", "Pi 5", "Graviton 3", "two kinds", "unequal", "Apple VM", "unknown", "32", "x86"],
)
def test_a_processor_has_its_name_and_instruction_sets(
    tmp_path: Path, cpuinfo: str, board: str, name: str, isa: tuple[str, ...]
) -> None:
    lay(tmp_path, {"proc/cpuinfo": cpuinfo} | ({"proc/device-tree/model": board} if board else {}))
    assert processor.describe(tmp_path) == processor.Processor(name, isa)


def test_a_machine_that_shows_nothing_still_has_a_name(tmp_path: Path) -> None:
    described = processor.describe(tmp_path)
    assert described.name
    assert described.isa == ()
