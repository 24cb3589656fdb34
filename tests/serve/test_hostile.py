"""Files that would harm a careless service; each is refused, and the service goes on."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data import builders
from data.builders import noise
from medseg.data.io import read_image
from serve.servers import Server, png

IMAGE = noise(1, (40, 50))
BRIGHT = "?model=bright"


@pytest.fixture(autouse=True)
def _goes_on(server: Server) -> object:
    yield
    reply = server.predict(png(IMAGE), BRIGHT)
    assert reply.status == 200


def _png_of_size(width: int, height: int) -> bytes:
    """A header that promises any size, with hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def _frames(kind: str) -> bytes:
    file = io.BytesIO()
    first, *others = (Image.fromarray(noise(seed, (8, 9))) for seed in range(3))
    first.save(file, kind, save_all=True, append_images=others)
    return file.getvalue()


def test_a_decompression_bomb_is_refused_by_its_header(server: Server, tmp_path: Path) -> None:
    bomb = builders.png_bomb(tmp_path / "bomb.png").read_bytes()
    reply = server.predict(bomb, BRIGHT)
    assert reply.status == 413
    assert "20000 x 20000" in reply.detail


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (1, 100_000_000)])
def test_a_header_that_promises_absurd_sizes_is_refused(
    server: Server, size: tuple[int, int]
) -> None:
    assert server.predict(_png_of_size(*size), BRIGHT).status == 413


def test_a_header_that_promises_more_than_there_is_is_refused(server: Server) -> None:
    reply = server.predict(_png_of_size(4000, 4000), BRIGHT)
    assert reply.status == 422
    assert "cannot be decoded" in reply.detail


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
def test_a_very_long_image_gets_a_mask_of_its_size(server: Server, shape: tuple[int, int]) -> None:
    reply = server.predict(png(noise(2, shape)), BRIGHT)
    assert reply.mask.shape == shape


def test_chunks_that_inflate_without_end_are_refused(server: Server) -> None:
    data = png(IMAGE)
    text = b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + text))
    reply = server.predict(data[:33] + chunk + data[33:], BRIGHT)
    assert reply.status in (200, 422)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04" + bytes(100), "is not a PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a PNG"),
        (b"%PDF-1.7\n", "is not a PNG"),
        (b"\x80\x04cos\nsystem\n(S'id'\ntR.", "is not a PNG"),
        (bytes(128) + b"DICM" + bytes(100), "DICOM"),
        (bytes(344) + b"n+1\0" + bytes(100), "NIfTI"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip"),
        (b"NRRD0004\n", "NRRD"),
        (b"%!PS-Adobe-3.0 EPSF", "is not a PNG"),
    ],
)
def test_what_is_no_picture_is_refused(server: Server, data: bytes, said: str) -> None:
    reply = server.predict(data, BRIGHT)
    assert reply.status == 415
    assert said in reply.detail


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_several_frames_or_pages_are_refused(server: Server, kind: str) -> None:
    assert server.predict(_frames(kind), BRIGHT).status == 415


def test_nothing_at_all_is_refused(server: Server) -> None:
    reply = server.predict(b"", BRIGHT)
    assert (reply.status, reply.detail) == (422, "The image is empty")


@pytest.mark.parametrize("kind", ["text/html", "application/json", "video/mp4", "image"])
def test_a_body_that_says_it_is_no_image_is_refused(server: Server, kind: str) -> None:
    assert server.predict(png(IMAGE), BRIGHT, {"Content-Type": kind}).status == 415


def test_a_file_that_is_also_something_else_is_only_an_image(server: Server) -> None:
    data = png(IMAGE)
    for polyglot in (data + b"<script>alert(1)</script>", data + b"PK\x05\x06" + bytes(18)):
        reply = server.predict(polyglot, BRIGHT)
        assert reply.body == server.predict(data, BRIGHT).body
        assert reply.headers["content-type"] == "image/png"


def test_a_tiff_that_names_other_files_does_not_make_the_service_read_them(
    server: Server, tmp_path: Path
) -> None:
    there = tmp_path / "secret.tif"
    tifffile.imwrite(there, IMAGE[..., 0])
    data = []
    for name in (str(there), str(tmp_path / "nothing.tif")):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
            'SizeX="50" SizeY="40" SizeZ="2" SizeC="1" SizeT="1">'
            '<TiffData IFD="0" FirstZ="0" PlaneCount="1"/>'
            f'<TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID FileName="{name}">urn:uuid:1'
            "</UUID></TiffData></Pixels></Image></OME>"
        )
        file = io.BytesIO()
        tifffile.imwrite(file, IMAGE[..., 0], description=xml, metadata=None)
        data.append(server.predict(file.getvalue(), BRIGHT))
    assert data[0] == data[1]


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGB", {}),
        ("GIF", "P", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "P", {}),
        ("TIFF", "1", {"compression": "group4"}),
    ],
)
def test_every_kind_of_picture_is_decoded_as_elsewhere(
    server: Server, tmp_path: Path, kind: str, mode: str, options: dict[str, object]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind in ("JPEG", "WEBP"):
        options = {**options, "exif": exif}
    file = tmp_path / "a"
    Image.fromarray(IMAGE).convert(mode).save(file, kind, **options)
    image = read_image(file).astype(np.float32)
    reply = server.predict(file.read_bytes(), BRIGHT)
    assert reply.mask.shape == image.shape[:2]
    assert np.array_equal(reply.mask == 255, image.mean(axis=2) / np.float32(255) >= 0.5)


@given(st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_file_is_refused_or_decoded_and_nothing_else(
    server: Server, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]))
    content = bytearray(png(IMAGE, format=kind))
    for _ in range(data.draw(st.integers(0, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)))
    reply = server.predict(bytes(content[:cut]), BRIGHT)
    assert reply.status in (200, 413, 415, 422)
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"no boundary here", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n--x--\r\n',
            422,
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n\x89PNG',
            400,
        ),
        (f"multipart/form-data; boundary={'b' * 5000}", b"x", 400),
    ],
)
def test_a_form_without_an_image_is_refused(
    server: Server, kind: str, body: bytes, status: int
) -> None:
    assert server.predict(body, BRIGHT, {"Content-Type": kind}).status == status
