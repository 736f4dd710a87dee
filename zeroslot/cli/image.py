"""Images in samples: what is one, how it becomes text for a terminal, and a file.

What is an image: an array of uint8 with the shape (height, width), or (height, width, 1, 3 or 4) for grey, RGB and
RGBA; bytes that begin as a JPEG or PNG file does; and what a depth camera gives, an array of bool, of other integers or
of float with the shape (height, width) or (height, width, 1), whose range becomes black to white.

Why the text is made here and not by rich: a picture of 200 columns has ten thousand colours, and rich makes an object
of each. Which colours the terminal has is asked of rich.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import zeroslot as zs
from zeroslot.cli import CommandError
from zeroslot.cli.expression import WHOLE

MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
SUFFIXES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
CHANNELS = {1: "grey", 3: "rgb", 4: "rgba"}
RAMP = " .:-=+*#%@"
UPPER_HALF = "▀"
MISSING = "{what} needs Pillow, which is not installed: pip install 'zeroslot[view]'"


@dataclass(frozen=True, slots=True)
class Image:
    """One image. `pixels`: uint8, (height, width, 1, 3 or 4). `raw`: what it was made from. `form`: what that is, such
    as "rgb", "jpeg" or "uint16".
    """

    pixels: NDArray[np.uint8]
    raw: Any
    form: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.pixels.shape[:2]
        return width, height


def image_of(value: Any, *, bgr: bool = False) -> Image | None:
    """A value as an image; None: it is none. `bgr`: its colours are in the order of OpenCV. Raises CommandError for a
    damaged file, and where Pillow is missing.
    """
    encoding = _encoding_of(value)
    if encoding:
        pixels = _decoded(bytes(value), encoding)
        form = encoding
    elif isinstance(value, np.ndarray) and value.size and value.dtype.kind in "biuf":
        found = _pixels_of(value)
        if found is None:
            return None
        pixels = found
        form = CHANNELS[pixels.shape[2]] if value.dtype == np.uint8 else value.dtype.name
    else:
        return None
    if bgr and not encoding and pixels.shape[2] >= 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    return Image(pixels, value, form)


def images_in(sample: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a sample that may be images, nested ones too, by name."""
    if isinstance(sample, (zs.View, zs.Sample)):
        fields: Any = sample  # a view iterates as the model does
        for field, value in fields:
            yield from images_in(value, f"{name}.{field}".lstrip("."))
    elif _encoding_of(sample) or (isinstance(sample, np.ndarray) and sample.size and _has_image_shape(sample)):
        yield name or WHOLE, sample


def _encoding_of(value: Any) -> str:
    if isinstance(value, np.ndarray) and (value.ndim != 1 or value.dtype != np.uint8):
        return ""
    if not isinstance(value, (bytes, memoryview, np.ndarray)):
        return ""
    begin = bytes(value[:8])
    return next((encoding for magic, encoding in MAGIC.items() if begin.startswith(magic)), "")


def _has_image_shape(array: NDArray[Any]) -> bool:
    if array.dtype == np.uint8 and array.ndim == 3:
        return array.shape[2] in CHANNELS
    flat = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    return flat and array.dtype.kind in "biuf" and array.dtype.itemsize <= 8


def _pixels_of(array: NDArray[Any]) -> NDArray[np.uint8] | None:
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in CHANNELS:
        return None
    return array if array.dtype == np.uint8 else _scaled(array)


def _scaled(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The least value is black, the greatest white; what is not finite is black."""
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(array.shape, np.uint8)
    low, high = values[finite].min(), values[finite].max()
    values = np.where(finite, values - low, 0.0)
    scaled: NDArray[np.uint8] = (values * (255.0 / (high - low) if high > low else 0.0)).astype(np.uint8)
    return scaled


def _pillow(what: str) -> Any:
    try:
        from PIL import Image as Pillow
    except ModuleNotFoundError:
        raise CommandError(MISSING.format(what=what)) from None
    return Pillow


def _decoded(data: bytes, encoding: str) -> NDArray[np.uint8]:
    pillow = _pillow(f"an image as {encoding}")
    try:
        with pillow.open(io.BytesIO(data), formats=[encoding]) as image:
            if image.mode not in ("L", "RGB", "RGBA"):
                image = image.convert("L" if image.mode in ("1", "I", "F", "I;16") else "RGB")  # noqa: PLW2901  # the same
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Warning, pillow.DecompressionBombError) as error:
        raise CommandError(f"the {encoding} image cannot be decoded: {error}") from None
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def save(image: Image, path: Path) -> None:
    """Write a file in the format that its suffix says. A file in that format already, and 16 bits of grey in a PNG, are
    kept as they are. Raises CommandError and OSError.
    """
    encoding = SUFFIXES.get(path.suffix.lower())
    if encoding is not None and encoding == image.form:
        path.write_bytes(bytes(image.raw))
        return
    pillow = _pillow("--save")
    pixels: NDArray[Any] = image.pixels[..., 0] if image.pixels.shape[2] == 1 else image.pixels
    if image.form == "uint16" and encoding == "png" and pixels.ndim == 2:
        pixels = image.raw.reshape(pixels.shape)
    made = pillow.fromarray(np.ascontiguousarray(pixels))
    if encoding == "jpeg" and made.mode == "RGBA":
        made = made.convert("RGB")
    try:
        made.save(path)
    except ValueError as error:
        raise CommandError(f"{path} cannot be written: {error}. Name it .png or .jpg") from None


# --- text


def lines_of(image: Image, width: int, height: int, colours: str | None) -> list[str]:
    """The image as large as it fits into so many columns and lines: two pixels a character, in the colours that rich
    says the terminal has ("truecolor", "256", else characters of more or less ink).
    """
    wide, high = image.size
    scale = min(width / wide, 2 * height / high)
    columns, rows = max(round(wide * scale), 1), max(round(high * scale / 2), 1)
    margin = " " * ((width - columns) // 2)
    if colours not in ("truecolor", "256"):
        grey = _luminance(resized(_opaque(image.pixels), columns, rows))
        return [margin + "".join(RAMP[value * len(RAMP) // 256] for value in line) for line in grey.tolist()]
    pixels = resized(_opaque(image.pixels), columns, 2 * rows)
    code = _rgb_code if colours == "truecolor" else _palette_code
    return [margin + _line(pixels[2 * row], pixels[2 * row + 1], code) for row in range(rows)]


def _line(upper: NDArray[np.uint8], lower: NDArray[np.uint8], code: Any) -> str:
    """One line of half blocks: the upper pixel is the colour of the character, the lower one the background."""
    text, before = [], ""
    for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
        style = f"\x1b[38;{code(*above)};48;{code(*below)}m"
        text.append(UPPER_HALF if style == before else style + UPPER_HALF)
        before = style
    return "".join(text) + "\x1b[0m"


def _rgb_code(red: int, green: int, blue: int) -> str:
    return f"2;{red};{green};{blue}"


def _palette_code(red: int, green: int, blue: int) -> str:
    """The nearest of the 6 x 6 x 6 colours, or of the 24 greys."""
    if max(red, green, blue) - min(red, green, blue) < 10:
        grey = (red + green + blue) // 3
        return f"5;{16 if grey < 4 else 231 if grey > 246 else 232 + (grey - 4) * 24 // 243}"
    levels = [0 if part < 48 else 1 if part < 115 else (part - 35) // 40 for part in (red, green, blue)]
    return f"5;{16 + 36 * levels[0] + 6 * levels[1] + levels[2]}"


def _opaque(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As RGB; what is transparent is dark grey."""
    if pixels.shape[2] == 1:
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    blended: NDArray[np.uint8] = (pixels[..., :3] * alpha + 40 * (1 - alpha)).astype(np.uint8)
    return blended


def _luminance(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.asarray(pixels @ np.array([299, 587, 114]) // 1000, np.int64)


def resized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The image with another size: means of the pixels that become one, or copies."""
    for axis, length in ((0, height), (1, width)):
        have = pixels.shape[axis]
        if have <= length:
            pixels = pixels.take(np.arange(length) * have // length, axis)
            continue
        step = max(have // (4 * length), 1)  # more than four of each are no better, and slower
        thinned = pixels[::step] if axis == 0 else pixels[:, ::step]
        edges = np.arange(length + 1) * thinned.shape[axis] // length
        sums = np.add.reduceat(thinned, edges[:-1], axis, np.uint32)
        counts = np.diff(edges).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = (sums // counts).astype(np.uint8)
    return pixels
