"""Images as people have them, made into what every model here starts from."""

from io import BytesIO
from os import PathLike, fspath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def read_image(source, name: str | None = None, largest: int | None = None) -> Image.Image:
    """The image of a path, open file, bytes, PIL image or numpy array [H, W] or [H, W, channels], upright and as 8-bit RGB.

    EXIF's orientation is applied and transparent parts show white, as in a browser; an animated file gives its first frame.
    16 bits a channel, floats in 0..1 and bools are scaled to 8 bits; palettes, greys and CMYK become RGB. Colour profiles are
    not applied, for models are trained without them. name: what errors call the image, by default its path.
    largest: more pixels a side are taken away, of a JPEG before it is decoded.
    Raises ValueError, with the name, for a damaged image or one whose numbers have no known white; OSError for no such file.
    """
    path = fspath(source) if isinstance(source, str | PathLike) else None
    name = name or path or getattr(source, "filename", None) or getattr(source, "name", None) or "image"
    try:
        if isinstance(source, np.ndarray):
            return _rgb(_from_array(source))
        if isinstance(source, Image.Image):
            return _rgb(source)
        if isinstance(source, bytes | bytearray | memoryview):
            source = BytesIO(source)
        elif path is None and not hasattr(source, "read"):
            raise ValueError(f"need a path, open file, bytes, PIL image or numpy array, got {type(source).__name__}")
        with Image.open(source) as file:
            if largest:
                file.draft(None, (largest, largest))
            image = _rgb(file)
        if largest:
            image.thumbnail((largest, largest))
        return image
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot read the image {name}: no type that Pillow knows; save it as PNG or JPEG") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise ValueError(f"cannot read the image {name}: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # not 8 bits; what follows would cut them off at 255
        array, tags = np.asarray(image), getattr(image, "tag_v2", {})  # tags of TIFF: 258 bits a channel, 262 whether 0 is white
        if image.mode == "I":
            if image.format not in ("PNG", "PPM"):  # which have 16 bits and are only opened in this mode
                raise ValueError("integers of 32 bits have no known white; scale them to uint8 or uint16, or to floats in 0..1")
            array = array.astype(np.uint16)
        white = 2 ** tags[258][0] - 1 if 258 in tags else 2**16 - 1
        exif = image.getexif()
        image = _from_array(array, white, invert=tags.get(262) == 0)
        image.info["exif"] = exif.tobytes()
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _from_array(array: np.ndarray, white: int = 2**16 - 1, invert: bool = False) -> Image.Image:
    """An 8-bit image; white: the largest value of integers of more than 8 bits; invert: 0 is white."""
    if array.ndim not in (2, 3) or array.ndim == 3 and not 1 <= array.shape[2] <= 4 or array.size == 0:
        raise ValueError(f"need an array [H, W] or [H, W, 1 to 4 channels], got {list(array.shape)}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype.kind == "f":
        if not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):  # false for nan as well
            raise ValueError(f"floats must be in 0..1, got {array.min():.4g}..{array.max():.4g}; divide them by what white is")
        array = array * 255
    elif array.dtype == bool:
        array = array * 255
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = array * (255 / white)
    elif array.dtype != np.uint8:
        raise ValueError(f"need uint8, uint16, bools or floats in 0..1, got {array.dtype}")
    array = array.round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(255 - array if invert else array)
