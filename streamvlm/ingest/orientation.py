"""The eight orientations of a stored picture, by their numbers in EXIF, and how each is turned upright."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamvlm.frame import Picture

UPRIGHT = 1
"""The orientation of a picture that is shown as it is stored."""


_TURNS = {  # of a stored point, (right, down), to where it is seen: rows of a 2x2 matrix
    1: ((1, 0), (0, 1)),
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, 1), (-1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, -1), (1, 0)),
}


def orientation_of(matrix: Sequence[int]) -> int:
    """Returns the orientation of a video's display matrix, or the nearest one to it.

    Args:
        matrix: (9) numbers, row by row; a stored point, the row vector (right, down, 1), is multiplied by it.

    Source: libavutil/display.h; ISO/IEC 14496-12, the matrix of a track header.
    """
    (a, b, _, c, d, *_) = matrix

    def likeness(orientation: int) -> int:
        (right, down), (right_too, down_too) = _TURNS[orientation]
        return a * right + b * down + c * right_too + d * down_too

    return max(_TURNS, key=likeness)


def upright(picture: Picture, orientation: int) -> Picture:
    """Turns and mirrors a stored picture by its orientation; an unknown one leaves it as it is.

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
