"""The eight ways in which a stored picture may lie, by their numbers in EXIF, and how each is put upright."""

from __future__ import annotations

import numpy as np

from streamvlm.frame import Picture

UPRIGHT = 1
"""As it is stored."""


def upright(picture: Picture, orientation: int) -> Picture:
    """Turns and mirrors a stored picture as its orientation says; one that means nothing leaves it as it is.

    Args:
        picture: (height, width, 3) uint8 RGB, as stored.
        orientation: 1 to 8, as EXIF numbers them.

    Returns:
        (height, width, 3) or (width, height, 3), contiguous.

    Source: Exif 3.0 (CIPA DC-008), Orientation, tag 0x0112.
    """
    if orientation in (5, 6, 7, 8):  # its first row is a side of the picture
        picture = picture.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return np.ascontiguousarray(picture)
