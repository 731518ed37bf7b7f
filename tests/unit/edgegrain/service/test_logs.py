"""Logs hold what the service logs, and nothing of what libraries log at debug."""

from __future__ import annotations

import io
import json
import logging

import pytest
from PIL import Image, ImageDraw

from edgegrain.service.observability import configure_logs


@pytest.mark.parametrize(("level", "expected"), [("debug", {"detail", "event"}), ("info", {"event"}), ("error", set())])
def test_levels(level: str, expected: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level)
    logging.getLogger("edgegrain.service.worker").debug("detail")
    logging.getLogger("sdk.codec").info("event")
    assert {json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()} == expected


def test_exif_data_is_never_logged(capsys: pytest.CaptureFixture[str]) -> None:
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"  # Artist
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "JPEG", exif=exif)
    configure_logs("debug")
    with Image.open(stream) as image:
        assert image.getexif()[0x013B] == "Jane Doe"
        ImageDraw.Draw(image)
    assert "Jane" not in capsys.readouterr().err
