"""The body that `compare.py` measures with: a gyroid's walls in a ball, a torus around it, and eight specks to be removed.

In 32-bit floats, for a point (x, y, z) of the cube from -1 to 1; inside is above 0:

    length = sqrt(x² + y² + z²)
    gyroid = sin(12 x) cos(12 y) + sin(12 y) cos(12 z) + sin(12 z) cos(12 x)
    walls  = min(0.65 - length, (0.5 - |gyroid|) / 12)
    torus  = 0.12 - sqrt((sqrt(x² + z²) - 0.7)² + y²)
    specks = 0.04 - sqrt((|x| - 0.85)² + (|y| - 0.85)² + (|z| - 0.85)²)
    field  = max(walls, torus, specks)

and its colour, 0 to 1: (0.5 + 0.5 sin(8 x), 0.5 + 0.5 sin(8 y), 0.5 + 0.5 sin(8 z)).

Sample i of n along an axis lies at -1 + 2 i / (n - 1). Grids are indexed [z, y, x].
"""

import numpy


def axis(samples: int) -> numpy.ndarray:
    """Where the samples lie along an axis."""
    return (numpy.float32(-1) + numpy.float32(2) * numpy.arange(samples, dtype=numpy.float32) / numpy.float32(samples - 1)).astype(numpy.float32)


def field(samples: int) -> numpy.ndarray:
    """The dense grid, float32 [z, y, x]; made slice by slice, so that it needs hardly more room than it takes."""
    grid = numpy.empty((samples, samples, samples), numpy.float32)
    along = axis(samples)
    x, y = along[None, :], along[:, None]
    for layer, z in enumerate(along):
        grid[layer] = value(x, y, z)
    return grid


def value(x: numpy.ndarray, y: numpy.ndarray, z: numpy.ndarray) -> numpy.ndarray:
    """The field at points of float32."""
    f, sin, cos, sqrt = numpy.float32, numpy.sin, numpy.cos, numpy.sqrt
    k = f(12)
    gyroid = sin(k * x) * cos(k * y) + sin(k * y) * cos(k * z) + sin(k * z) * cos(k * x)
    walls = numpy.minimum(f(0.65) - sqrt(x * x + y * y + z * z), (f(0.5) - abs(gyroid)) / k)
    torus = f(0.12) - sqrt((sqrt(x * x + z * z) - f(0.7)) ** 2 + y * y)
    a, b, c = (abs(along) - f(0.85) for along in (x, y, z))
    specks = f(0.04) - sqrt(a * a + b * b + c * c)
    return numpy.maximum(numpy.maximum(walls, torus), specks)


def colors(samples: int) -> numpy.ndarray:
    """The dense grid of colours, float32 [3, z, y, x]."""
    wave = numpy.float32(0.5) + numpy.float32(0.5) * numpy.sin(numpy.float32(8) * axis(samples))
    shape = (samples, samples, samples)
    return numpy.stack([numpy.broadcast_to(wave.reshape(where), shape) for where in ((1, 1, -1), (1, -1, 1), (-1, 1, 1))])
