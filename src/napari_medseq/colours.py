"""One colour per lesion identity, the same in the viewer's label layers and in every plot; and colours as one grey value."""

from __future__ import annotations

from colorsys import hsv_to_rgb

#: red, green and blue in luminance (ITU-R BT.601)
LUMINANCE = (0.299, 0.587, 0.114)
_GOLDEN = 0.6180339887498949


def lesion_colour(lesion: int) -> tuple[float, float, float, float]:
    """RGBA in 0–1 of a lesion identity; 0 is transparent.

    Hues step by the golden ratio, so that neighbouring numbers look different however many there are; saturation and
    brightness vary slowly, so that even the thirteenth is not the first again.
    """
    if lesion <= 0:
        return 0.0, 0.0, 0.0, 0.0
    k = lesion - 1
    red, green, blue = hsv_to_rgb((0.02 + k * _GOLDEN) % 1.0, (0.75, 0.55, 0.9)[k // 8 % 3], (0.9, 0.75)[k // 5 % 2])
    return red, green, blue, 1.0
