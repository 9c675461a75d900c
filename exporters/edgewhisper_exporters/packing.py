"""Codes of 2, 3 and 4 bits in bytes, as MatMulNBits reads them.

Of 4 bits, a byte holds two codes, of 2 bits four, the first in the lowest bits. No engine reads 3
bits, so those are stored for a loss-free and cheap way to 4: a pair of 3-bit codes in a byte leaves
bits 3 and 7 free, and the free bits of three such bytes hold a fourth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# (bits of the fourth byte, how far they move to the left) in the first, second and third byte
CARRIED = ((0x11, 3), (0x22, 2), (0x44, 1))
KEPT, FREE = 0x77, 0x88  # of each of the three


def kernel_bits(bits: int) -> int:
    """Return the bits of a code in the kernel that multiplies codes of `bits`."""
    return 4 if bits == 3 else bits  # noqa: PLR2004 # see above


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack codes uint8 [..., n] of 2, 3, 4 or 8 bits into bytes uint8 [..., n * bits / 8].

    n is a multiple of 8 for 3 bits, of the codes in a byte for others.
    """
    width = kernel_bits(bits)
    step = 8 // width
    packed = codes[..., 0::step]
    for place in range(1, step):
        packed = packed | (codes[..., place::step] << np.uint8(place * width))
    if width == bits:
        return packed
    *three, fourth = np.split(packed, 4, axis=-1)
    return np.concatenate(
        [
            byte | ((fourth & taken) << left)
            for byte, (taken, left) in zip(three, CARRIED, strict=True)
        ],
        axis=-1,
        dtype=np.uint8,
    )
