"""The processor's name and instruction sets, from the texts that Linux shows of it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

# Instruction sets that decide how fast the arithmetic is.
_SPEED_FLAGS = (
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
# Part numbers of /proc/cpuinfo by implementer: arm64's MIDR_EL1, as in the kernel's
# arch/arm64/include/asm/cputype.h and util-linux's lscpu-arm.c.
_PARTS = {
    0x41: ("ARM", {
        0xB76: "ARM1176", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9",
        0xC0F: "Cortex-A15", 0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55",
        0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75",
        0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE",
        0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1",
        0xD46: "Cortex-A510", 0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2",
        0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520",
        0xD81: "Cortex-A720", 0xD82: "Cortex-X4", 0xD84: "Neoverse-V3", 0xD8E: "Neoverse-N3",
    }),
    0x46: ("Fujitsu", {0x001: "A64FX"}),
    0x48: ("HiSilicon", {0xD01: "TaiShan-v110", 0xD02: "TaiShan-v120"}),
    0x4E: ("NVIDIA", {0x003: "Denver 2", 0x004: "Carmel"}),
    0x51: ("Qualcomm", {
        0x001: "Oryon", 0x800: "Kryo 2xx Gold", 0x801: "Kryo 2xx Silver", 0x802: "Kryo 3xx Gold",
        0x803: "Kryo 3xx Silver", 0x804: "Kryo 4xx Gold", 0x805: "Kryo 4xx Silver",
    }),
    0x61: ("Apple", {
        0x022: "M1 Icestorm", 0x023: "M1 Firestorm", 0x032: "M2 Blizzard", 0x033: "M2 Avalanche",
    }),
    0xC0: ("Ampere", {0xAC3: "Ampere-1", 0xAC4: "Ampere-1A"}),
}  # fmt: skip


@dataclass(frozen=True)
class Processor:
    """A processor's name, the board's name where there is one, and its instruction sets."""

    name: str
    isa: tuple[str, ...] = ()


def describe(root: Path = Path("/")) -> Processor:
    """Return this machine's processor; below `root` are its /proc and /sys."""
    info = _read(root / "proc/cpuinfo")
    board = _read(root / "proc/device-tree/model").rstrip("\0\n ")
    fallback = platform.processor() or platform.machine()
    return Processor(name_of(info, board) or fallback, instruction_sets(info))


def name_of(cpuinfo: str, board: str = "") -> str:
    """Return a processor's name from the text of /proc/cpuinfo; empty where it has none.

    x86 names its model. On ARM it is the board's name of the device tree and the cores' names by
    implementer and part, each kind once with its number; an unknown part is shown as its numbers.
    """
    entries = [_fields(block) for block in cpuinfo.split("\n\n")]
    model = next((entry["model name"] for entry in entries if "model name" in entry), "")
    if model and "CPU part" not in entries[0]:
        return model
    cores: dict[str, int] = {}
    for entry in entries:
        if "CPU part" in entry:
            core = _core(entry.get("CPU implementer", ""), entry["CPU part"])
            cores[core] = cores.get(core, 0) + 1
    kinds = ", ".join(f"{count} x {core}" for core, count in cores.items())
    if board and kinds:
        return f"{board} ({kinds})"
    return board or kinds or model


def instruction_sets(cpuinfo: str) -> tuple[str, ...]:
    """Return the instruction sets of /proc/cpuinfo that matter for speed, those of all cores."""
    lines = [
        set(line.split(":", 1)[1].split())
        for line in cpuinfo.splitlines()
        if ":" in line and line.split(":")[0].strip().lower() in {"flags", "features"}
    ]
    common = set.intersection(*lines) if lines else set()
    return tuple(flag for flag in _SPEED_FLAGS if flag in common)


def _core(implementer: str, part: str) -> str:
    maker, parts = _PARTS.get(_number(implementer), (f"implementer {implementer or '?'}", {}))
    name = parts.get(_number(part), f"part {part}")
    return f"{maker} {name}"


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return -1


def _fields(block: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
