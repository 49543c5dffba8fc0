"""Images on their way to a model: what comes out is whole and small, what is broken stays out."""

import os
import zlib
from pathlib import Path

import pytest

from backstay.tools import picture
from tests.tools import pictures

SENT = {
    "PNG": "png",
    "JPEG": "jpeg",
    "GIF": "png",
    "BMP": "png",
    "WEBP": "jpeg",
}


@pytest.mark.parametrize("kind", SENT)
def test_every_format_comes_out_as_png_or_jpeg(kind: str) -> None:
    """In its own size, decodable."""
    made = picture.made(pictures.image(kind, (40, 30)))
    shown = pictures.opened(made.part)
    assert (made.kind, shown.size, made.before, made.after) == (SENT[kind], *[(40, 30)] * 3)
    assert str(made) == "40x30 pixels"


@pytest.mark.parametrize(
    "kind,mode",
    [("PNG", m) for m in ("1", "L", "LA", "P", "RGBA", "I;16")] + [("JPEG", "CMYK"), ("GIF", "P")],
)
def test_every_mode_can_be_sent(kind: str, mode: str) -> None:
    """Black and white, gray, palette, transparent, 16 bits, four colours."""
    shown = pictures.opened(picture.made(pictures.image(kind, (8, 8), mode)).part)
    assert shown.mode in ("L", "RGB", "RGBA")


def test_sixteen_bits_keep_their_brightness() -> None:
    """The upper eight bits count."""
    from io import BytesIO

    from PIL import Image

    into = BytesIO()
    Image.new("I;16", (8, 8), 0x8000).save(into, "PNG")
    assert pictures.opened(picture.made(into.getvalue()).part).getpixel((0, 0)) == 0x80


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_image_is_shrunk(kind: str) -> None:
    """To the longest side, in its proportions; the text says both sizes."""
    made = picture.made(pictures.image(kind, (5000, 1000)))
    assert pictures.opened(made.part).size == made.after == (2048, 410)
    assert str(made) == "5000x1000 pixels, shown as 2048x410"


def test_a_long_line_keeps_a_pixel_of_height() -> None:
    """No side becomes nothing."""
    assert picture.made(pictures.image(size=(9000, 1))).after == (2048, 1)


def test_an_image_that_stays_large_is_compressed_harder_and_then_shrunk() -> None:
    """Noise of 1200 pixels ends below the limit."""
    made = picture.made(pictures.noise("PNG", (1200, 1200)))
    assert made.kind == "jpeg"
    assert len(made.content) <= picture.ENOUGH_BYTES
    assert 500 < pictures.opened(made.part).size[0] < 1200


def test_transparency_is_kept_where_it_is_small() -> None:
    """And white where it must become a JPEG."""
    from io import BytesIO

    from PIL import Image

    small = picture.made(pictures.image("PNG", (8, 8), "RGBA"))
    assert pictures.opened(small.part).mode == "RGBA"
    clear = Image.effect_noise((900, 900), 90).convert("RGBA")
    clear.putalpha(0)
    into = BytesIO()
    clear.save(into, "PNG")
    large = pictures.opened(picture.made(into.getvalue()).part)
    assert (large.format, large.getpixel((450, 450))) == ("JPEG", (255, 255, 255))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_taken_upright_is_upright(kind: str) -> None:
    """Orientation 6: what was left in the file is on top."""
    made = picture.made(pictures.turned(kind))
    shown = pictures.opened(made.part).convert("L")
    assert (made.before, made.after, shown.size) == ((20, 40), (20, 40), (20, 40))
    top, bottom = shown.tobytes()[5 * 20], shown.tobytes()[35 * 20]
    assert top > 200
    assert bottom < 50


def test_nothing_but_pixels_is_sent() -> None:
    """Neither the camera's data, nor a profile, nor what stands behind the image."""
    taken = pictures.turned("JPEG", 1) + b"secret"
    profiled = pictures.image("PNG", icc_profile=b"a profile")
    for content, marks in ((taken, (b"Exif", b"secret")), (profiled, (b"iCCP",))):
        made = picture.made(content)
        for mark in marks:
            assert mark in content
            assert mark not in made.content


def test_of_an_animation_the_first_frame_is_shown() -> None:
    """White, not black."""
    shown = pictures.opened(picture.made(pictures.animation()).part)
    assert shown.convert("L").getpixel((0, 0)) == 255


WHOLE = {kind: pictures.image(kind, (64, 64)) for kind in SENT}
BROKEN = {
    "text": b"hello",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "tiff": pictures.image("TIFF"),
    "a PNG's first bytes": WHOLE["PNG"][:20],
    "half a PNG": pictures.noise("PNG", (64, 64))[:4000],
    "half a JPEG": pictures.noise("JPEG", (64, 64))[:2000],
    "half a GIF": pictures.noise("GIF", (64, 64))[:2000],
    "half a WebP": pictures.noise("WEBP", (64, 64))[:1000],
    "half a BMP": WHOLE["BMP"][:2000],
    "a PNG without pixels": pictures.bomb(100, 100),
    "no pixels at all": pictures.bomb(0, 0),
    "a text that unpacks to megabytes": pictures.bomb(
        4, 3, pictures.chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(90_000_000)))
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_whole_image_stays_out(name: str) -> None:
    """One line that says so."""
    with pytest.raises(picture.BadImage) as caught:
        picture.made(BROKEN[name])
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [8_100, 10_000, 30_000])
def test_an_image_of_too_many_pixels_is_not_decoded(side: int) -> None:
    """That is the reason, not the pixels that are missing; below and above the library's limits."""
    with pytest.raises(picture.BadImage, match="pixels"):
        picture.made(pictures.bomb(side, side))
    with pytest.raises(picture.BadImage, match="broken"):
        picture.made(pictures.bomb(7_900, 1))


@pytest.mark.parametrize("kind", SENT)
def test_no_damage_is_more_than_a_bad_image(kind: str) -> None:
    """Every prefix, and a byte changed anywhere: an image or `BadImage`, nothing else."""
    content = pictures.noise(kind, (24, 24))
    step = max(1, len(content) // 60)
    for at in range(0, len(content), step):
        for broken in (content[:at], content[:at] + b"\xff" + content[at + 1 :]):
            try:
                pictures.opened(picture.made(broken).part)
            except picture.BadImage:
                continue


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A device, a pipe that nobody writes to, a folder: refused at once; a link is followed."""
    (tmp_path / "a.png").write_bytes(pictures.image())
    (tmp_path / "link.png").symlink_to("a.png")
    assert picture.read(str(tmp_path / "link.png")).after == (4, 3)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("pipe.png", "zero.png", "loop.png", ".", "none.png", "a\0b"):
        with pytest.raises(picture.BadImage):
            picture.read(str(tmp_path / name))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """Its size is the reason; nor is an empty one an image."""
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(picture.LONGEST_FILE + 1)
    with pytest.raises(picture.BadImage, match="are the limit"):
        picture.read(str(tmp_path / "huge.png"))
    (tmp_path / "empty.png").touch()
    with pytest.raises(picture.BadImage, match="empty"):
        picture.read(str(tmp_path / "empty.png"))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Whatever the file is."""
    (tmp_path / "a.png").write_bytes(pictures.image())
    before = len(os.listdir("/dev/fd"))
    for name in ("a.png", ".", "none.png"):
        try:
            picture.read(str(tmp_path / name))
        except picture.BadImage:
            continue
    assert len(os.listdir("/dev/fd")) == before
