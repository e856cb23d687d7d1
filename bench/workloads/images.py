"""Synthetic images: smooth random fields, for networks that have no data of their own.

They are no photographs and have no labels, so that no accuracy can be told from them; what they have of
images is that neighbours are alike, on every scale, and that no two of them are the same.
"""

from __future__ import annotations

import numpy as np

# Amplitude of an octave, of cells half as wide, against the one before.
_FALLOFF = 0.6


def smooth_images(count: int, channels: int, size: int, *, seed: int) -> np.ndarray:
    """Draw images (count, channels, size, size), float32 in 0..1, as 8-bit pixels would give them.

    Octaves of value noise, bilinear between random cells; each image is stretched over its whole range.
    An image depends on the seed and its own number, whatever the count.
    """
    images = np.stack(
        [_field(channels, size, np.random.default_rng([seed, index])) for index in range(count)]
    )
    low, high = (f(images, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    return (np.rint((images - low) / (high - low) * 255) / 255).astype(np.float32)


def _field(channels: int, size: int, generator: np.random.Generator) -> np.ndarray:
    field = np.zeros((channels, size, size))
    cells, amplitude = 2, 1.0
    while cells <= size:
        # Colours vary less than brightness.
        grey = generator.standard_normal((1, cells + 1, cells + 1))
        grid = grey + 0.5 * generator.standard_normal((channels, cells + 1, cells + 1))
        between = _interpolation(cells, size)
        field += amplitude * (between @ grid @ between.T)
        cells, amplitude = 2 * cells, amplitude * _FALLOFF
    return field


def _interpolation(cells: int, size: int) -> np.ndarray:
    """Matrix (size, cells + 1) from the corners of cells to the pixels between them, linear."""
    position = (np.arange(size) + 0.5) * cells / size
    corner = np.floor(position).astype(int)
    matrix = np.zeros((size, cells + 1))
    rows = np.arange(size)
    matrix[rows, corner] = 1 - (position - corner)
    matrix[rows, corner + 1] += position - corner
    return matrix
