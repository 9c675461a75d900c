"""How this process takes memory from glibc and returns it; without glibc nothing is done."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = 2 << 20  # bytes
_KEPT = 4 << 20  # bytes of free memory at the end of the heap: the logits of a few rows, twice


def return_large_blocks() -> None:
    """Have glibc return blocks of 2 MB and more to the system as soon as they are freed.

    Its default takes ever larger blocks from the heap, which grows by the gaps between them: with
    windows of all lengths by 30 MB in an hour, measured on whisper-tiny.en. A smaller threshold
    costs more time for fresh pages. So does an end of the heap that is returned as soon as 128 KB
    of it are free, glibc's default: logits of five rows take twice the time.

    The settings are for the whole process, so the library leaves them to the program: command
    lines make them at their start.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def return_free_memory() -> None:
    """Have glibc return the free pages of its heap to the system, once.

    Files that were read and packed leave many behind: 20 MB, measured on whisper-base.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
