"""Lighter bytes for photographs: forty plates with grain are 80 MB as PNG, and 12 MB as JPEG.

Only the whole plate is made lighter. Mattes and differences are what is judged, and the surroundings of the worst pixel
are read pixel by pixel: these stay the bytes that the pipeline made.
"""

import tempfile
from pathlib import Path

from changeover_registry.records.scores import Picture

__all__ = ["lighter"]

_LIGHT_BYTES = 150_000
"""A PNG that is smaller is left alone."""
_QUALITY = "jpeg:90"


def lighter(picture: Picture, png: bytes) -> bytes:
    """The plate as JPEG where that is smaller; any other picture as it is."""
    if picture.kind != "plate" or picture.crop or len(png) < _LIGHT_BYTES:
        return png
    jpeg = _jpeg(png)
    return jpeg if 0 < len(jpeg) < len(png) else png


def _jpeg(png: bytes) -> bytes:
    """The picture as JPEG; none where it is no picture that can be read. The library reads and writes files only."""
    import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses

    with tempfile.TemporaryDirectory(prefix="changeover-") as folder:
        source, target = Path(folder, "plate.png"), Path(folder, "plate.jpg")
        source.write_bytes(png)
        image = oiio.ImageBuf(str(source))
        image.specmod().attribute("Compression", _QUALITY)
        written = image.write(str(target), "uint8")
        image.geterror()
        return target.read_bytes() if written else b""
