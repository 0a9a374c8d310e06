"""Drawings as PNG files: a site that shows notebooks leaves SVG out. Each file carries the SVG that it was made from."""

from __future__ import annotations

import shutil
import struct
import zlib
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = b"svg\0\1\0\0\0"  # an iTXt chunk: keyword, compressed by zlib, no language
_SIGNATURE = 8


def png(svg: str) -> bytes:
    """Return a drawing in twice its size, without a ground, as Chromium paints it."""
    with sync_playwright() as play:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(device_scale_factor=2)
        page.set_content(f"<body style='margin: 0'>{svg}</body>")
        taken = page.locator("svg").screenshot(omit_background=True)
        browser.close()
    return with_source(taken, svg)


def with_source(picture: bytes, svg: str) -> bytes:
    """Return a PNG with a text in it."""
    body = b"iTXt" + _HEAD + zlib.compress(svg.encode())
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end = picture.rindex(b"IEND") - 4
    return picture[:end] + chunk + picture[end:]


def source_of(picture: bytes) -> str | None:
    """Return the text in a PNG, if there is one."""
    found = (zlib.decompress(data.removeprefix(_HEAD)) for kind, data in _chunks(picture) if kind == b"iTXt")
    return next((text.decode() for text in found), None)


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = _SIGNATURE
    while at < len(picture):
        (size,) = struct.unpack_from(">I", picture, at)
        yield picture[at + 4 : at + 8], picture[at + 8 : at + 8 + size]
        at += size + 12
