"""Whatever a file holds, what is read shows what a person sees in it."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from interp_utils.images import read_image

RAMP = np.linspace(0, 255, 24).round().astype(np.uint8)[None].repeat(16, 0)  # grey [16, 24], dark on the left


def picture() -> np.ndarray:
    """Four corners of four colours, so that any turn or flip shows: uint8 [16, 24, 3]."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12], pixels[:8, 12:], pixels[8:, :12], pixels[8:, 12:] = (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)
    return pixels


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def near(image: Image.Image, expected: np.ndarray, most: int = 1) -> bool:
    assert image.mode == "RGB"
    expected = expected if expected.ndim == 3 else np.stack([expected] * 3, -1)
    return np.abs(np.asarray(image).astype(int) - expected).max() <= most


def test_every_kind_of_source_gives_the_same_image(tmp_path):
    image, path = Image.fromarray(picture()), tmp_path / "a.png"
    image.save(path)
    data = path.read_bytes()
    with open(path, "rb") as file:
        found = [
            read_image(source) for source in (path, str(path), file, io.BytesIO(data), data, bytearray(data), memoryview(data))
        ]
    found += [read_image(image), read_image(picture()), read_image(Image.open(path))]
    assert all(near(each, picture(), 0) for each in found)
    assert read_image(image) is not image or np.array_equal(np.asarray(image), picture())


_TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_taken_sideways_stand_upright(kind, orientation):
    image = Image.fromarray(picture())
    stored = image.transpose(Image.Transpose[_TURNS[orientation]]) if orientation in _TURNS else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(stored, kind, exif=exif, **options)
    assert np.abs(np.asarray(read_image(data)).astype(int) - picture()).mean() < 2
    upright = read_image(data)
    assert near(read_image(upright), np.asarray(upright), 0), "reading twice turns it once"


def test_sixteen_bits_and_floats_are_scaled_not_cut():
    deep = (RAMP.astype(np.uint16) * 257).astype(np.uint16)
    share = (RAMP / 255).astype(np.float32)
    whole = {
        "16-bit PNG": encoded(Image.fromarray(deep)), "16-bit TIFF": encoded(Image.fromarray(deep), "TIFF"),
        "16-bit PGM": b"P5 24 16 65535\n" + deep.astype(">u2").tobytes(),
        "16-bit big-endian": Image.frombytes("I;16B", (24, 16), deep.astype(">u2").tobytes()),
        "float TIFF": encoded(Image.fromarray(share), "TIFF"),
        "uint16": deep, "float32": share, "float64": share.astype(float), "float16": share.astype(np.float16), "uint8": RAMP,
        "one channel": RAMP[..., None], "three channels": np.stack([share] * 3, -1), "just past 1": share * 1.0005,
    }  # fmt: skip
    for name, source in whole.items():
        assert near(read_image(source), RAMP), name
    assert near(read_image(RAMP > 127), np.where(RAMP > 127, 255, 0), 0)
    turned = Image.Exif()
    turned[0x0112] = 3
    assert near(read_image(encoded(Image.fromarray(deep[::-1, ::-1].copy()), exif=turned)), RAMP), "and turned as EXIF says"


def test_tiffs_of_twelve_bits_and_with_white_at_zero():
    deep = (RAMP.astype(np.uint16) * 257).astype(np.uint16)
    plain = encoded(Image.fromarray(deep), "TIFF")
    tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # 262, photometric interpretation: one short
    assert plain.count(tag) == 1
    inverted = encoded(Image.fromarray(65535 - deep), "TIFF").replace(tag + b"\x01", tag + b"\x00")
    assert near(read_image(plain), RAMP) and near(read_image(inverted), RAMP)
    pairs = (RAMP / 255 * 4095).round().astype(np.uint16).reshape(16, 12, 2)  # two values in three bytes
    body = np.stack([pairs[..., 0] >> 4, (pairs[..., 0] & 15) << 4 | pairs[..., 1] >> 8, pairs[..., 1] & 255], -1).astype(np.uint8)
    header = b"II*\0" + (8).to_bytes(4, "little")
    entries = [(256, 24), (257, 16), (258, 12), (259, 1), (262, 1), (273, 0), (277, 1), (278, 16), (279, body.nbytes)]
    at = 8 + 2 + 12 * len(entries) + 4
    entries = [(key, at if key == 273 else value) for key, value in entries]
    table = b"".join(k.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + v.to_bytes(4, "little") for k, v in entries)
    table = table.replace(b"\x02\x01\x04\0", b"\x02\x01\x03\0")  # bits a sample are shorts
    data = header + len(entries).to_bytes(2, "little") + table + bytes(4) + body.tobytes()
    assert near(read_image(data), RAMP)


@pytest.mark.parametrize(
    "source, message",
    [
        (RAMP.astype(np.float32), r"floats must be in 0\.\.1, got 0\.\.255"),
        (RAMP / 127.5 - 1, r"floats must be in 0\.\.1, got -1\.\.1"),
        (np.full((4, 4), np.nan), r"floats must be in 0\.\.1, got nan"),
        (RAMP.astype(int), "need uint8, uint16, bools or floats in 0..1, got int64"),
        (Image.fromarray(RAMP.astype(np.int32)), "integers of 32 bits have no known white"),
        (encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "integers of 32 bits have no known white"),
        (np.zeros((3, 24, 24), np.uint8), r"need an array \[H, W\] or \[H, W, 1 to 4 channels\], got \[3, 24, 24\]"),
        (np.zeros((0, 4), np.uint8), "need an array"),
    ],
)
def test_numbers_without_a_known_white_are_refused(source, message):
    with pytest.raises(ValueError, match="cannot read the image mine: " + message):
        read_image(source, "mine")


def test_what_is_transparent_shows_white_whatever_colour_hides_there():
    hidden = np.dstack([picture(), np.full((16, 24), 255, np.uint8)])
    hidden[4:10, 4:20, 3] = 0
    expected = picture()
    expected[4:10, 4:20] = 255
    assert near(read_image(encoded(Image.fromarray(hidden))), expected, 0)
    assert near(read_image(hidden), expected, 0) and near(read_image(Image.fromarray(hidden)), expected, 0)
    hidden[..., 3] = 51  # a fifth
    assert near(read_image(encoded(Image.fromarray(hidden))), picture() * 0.2 + 255 * 0.8)
    grey = np.stack([RAMP, np.where(RAMP > 127, 255, 0).astype(np.uint8)], -1)
    assert near(read_image(encoded(Image.fromarray(grey))), np.where(RAMP > 127, RAMP, 255), 0)
    palette = Image.fromarray(picture()).quantize(4)
    red = palette.getpixel((0, 0))
    expected = picture()
    expected[:8, :12] = 255
    for kind in ("PNG", "GIF"):
        assert near(read_image(encoded(palette, kind, transparency=red)), expected), kind
    assert near(read_image(encoded(Image.fromarray(picture()), transparency=(250, 0, 0))), expected, 0), "one colour is transparent"


def test_palettes_one_bit_and_cmyk_become_rgb():
    image = Image.fromarray(picture())
    for kind in ("PNG", "GIF"):
        assert near(read_image(encoded(image.quantize(4), kind)), picture())
    assert near(read_image(encoded(Image.fromarray(RAMP > 127))), np.where(RAMP > 127, 255, 0), 0)
    cmyk = encoded(image.convert("CMYK"), "JPEG", quality=100, subsampling=0)
    assert np.abs(np.asarray(read_image(cmyk)).astype(int) - picture()).mean() < 3
    assert near(read_image(image.convert("CMYK")), picture()) and near(read_image(Image.fromarray(RAMP)), RAMP, 0)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(kind):
    first, rest = Image.fromarray(picture()), [Image.new("RGB", (24, 16), colour) for colour in ("white", "black")]
    options = {"lossless": True} if kind == "WEBP" else {}
    assert near(read_image(encoded(first, kind, save_all=True, append_images=rest, **options)), picture(), 2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_damaged_files_are_named(tmp_path, kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path = tmp_path / f"broken.{kind.lower()}"
    path.write_bytes(encoded(noise, kind)[:-600])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in (path, str(path)):
            with pytest.raises(ValueError, match=f"cannot read the image {path}: "):
                read_image(source)
        with pytest.raises(ValueError, match="cannot read the image holiday: "):
            read_image(path.read_bytes(), "holiday")


def test_what_is_no_image_is_named_too(tmp_path):
    path = tmp_path / "page.jpg"
    for content in (b"", b"<html>404</html>", b"\xff\xd8\xff\xe0 and no more"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"cannot read the image {path}: "):
            read_image(path)
        with pytest.raises(ValueError, match="cannot read the image mine.jpg: ") as caught:
            read_image(content, "mine.jpg")
        with pytest.raises(ValueError, match="cannot read the image image: "):
            read_image(io.BytesIO(content))
        assert "BytesIO" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(OSError, match=tmp_path.name):
        read_image(tmp_path)
    with pytest.raises(ValueError, match="cannot read the image image: need a path, .* got NoneType"):
        read_image(None)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_photo_is_made_small_and_stays_upright(kind):
    file, sideways = io.BytesIO(), Image.Exif()
    sideways[0x0112] = 6
    stored = Image.new("RGB", (400, 300), "red")
    stored.paste("blue", (200, 0, 400, 300))
    stored.save(file, kind, exif=sideways)
    image = read_image(file.getvalue(), largest=100)
    assert image.size == (75, 100)
    assert image.getpixel((37, 10))[0] > 200 and image.getpixel((37, 90))[2] > 200, "red above blue"
    assert read_image(file.getvalue(), largest=1000).size == read_image(file.getvalue()).size == (300, 400), "nothing is enlarged"
