"""How this process takes memory from glibc and returns it; without glibc nothing is done."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE = 2 << 20  # bytes


def return_large_blocks() -> None:
    """Have glibc return blocks of 2 MB and more to the system as soon as they are freed.

    Its default takes ever larger blocks from the heap, which grows by the gaps between them: with
    windows of all lengths by 30 MB in an hour, measured on whisper-tiny.en. A smaller threshold
    costs more time for fresh pages. The setting is for the whole process, so the library leaves it
    to the program: command lines make it at their start.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)


def return_free_memory() -> None:
    """Have glibc return the free pages of its heap to the system, once.

    Files that were read and packed leave many behind: 20 MB, measured on whisper-base.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
