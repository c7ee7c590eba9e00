"""The canvas that the sample is drawn on, and the words for what is put there."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Frame = NDArray[np.uint8]
"""u8 (height, width, 3), RGB."""
Box = tuple[int, int, int, int]
"""x1, y1, x2, y2, in pixels of the canvas."""
Colour = tuple[int, int, int]

WIDTH: Final = 640
HEIGHT: Final = 360
CLIP_SECONDS: Final = 5.0


def as_colour(tone: FloatArray) -> Colour:
    """The nearest colour that OpenCV can draw with."""
    red, green, blue = np.clip(tone, 0, 255).astype(int).tolist()
    return red, green, blue
