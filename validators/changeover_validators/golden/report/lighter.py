"""Lighter bytes for photographs: forty plates with grain are 80 MB as PNG, and 12 MB as JPEG.

Only the whole plate is made lighter. Mattes and differences are what is judged, and the surroundings of the worst pixel
are read pixel by pixel: these stay the bytes that the pipeline made. A thumbnail is for recognising a shot, no more.
"""

import tempfile
from pathlib import Path

from changeover_registry.records.scores import Picture

__all__ = ["THUMBNAIL_PIXELS", "lighter", "thumbnail"]

_LIGHT_BYTES = 150_000
"""A PNG that is smaller is left alone."""
_QUALITY = "jpeg:90"
THUMBNAIL_PIXELS = 160
"""The longer side of a thumbnail; a page that may not give a size shows it as it is."""


def lighter(picture: Picture, png: bytes) -> bytes:
    """The plate as JPEG where that is smaller; any other picture as it is."""
    if picture.kind != "plate" or picture.crop or len(png) < _LIGHT_BYTES:
        return png
    jpeg = _jpeg(png)
    return jpeg if 0 < len(jpeg) < len(png) else png


def thumbnail(png: bytes) -> bytes:
    """A small JPEG of a picture, its sides in proportion; none where it is no picture that can be read."""
    return _jpeg(png, THUMBNAIL_PIXELS)


def _jpeg(png: bytes, most_pixels: int | None = None) -> bytes:
    """The picture as JPEG; none where it is no picture that can be read. The library reads and writes files only."""
    import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses

    with tempfile.TemporaryDirectory(prefix="changeover-") as folder:
        source, target = Path(folder, "plate.png"), Path(folder, "plate.jpg")
        source.write_bytes(png)
        image = oiio.ImageBuf(str(source))
        longer = max(image.spec().width, image.spec().height)
        if most_pixels is not None and longer > most_pixels:
            width, height = (max(1, side * most_pixels // longer) for side in (image.spec().width, image.spec().height))
            image = oiio.ImageBufAlgo.resize(image, roi=oiio.ROI(0, width, 0, height, 0, 1, 0, image.nchannels))
        image.specmod().attribute("Compression", _QUALITY)
        written = image.write(str(target), "uint8")
        image.geterror()
        return target.read_bytes() if written else b""
