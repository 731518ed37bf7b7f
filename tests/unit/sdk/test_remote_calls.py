"""Requests, answers of services that are no services, pauses between attempts."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.errors import DeviceMemoryError, ImageError, ServiceError
from sdk import remote_calls
from sdk.payload import Payload, Scene
from sdk.remote_calls import (
    compress_call,
    parse_retry_after,
    picture_file,
    read_bundles,
    read_faces,
    read_payload,
    read_picture,
    read_refusal,
    restore_call,
)

FIELDS = {"id": "x", "version": "1", "codec": "grain", "domain": "faces", "hr": 64, "lr": 1, "lr_contract_id": "5" * 64}


def test_an_answer_that_is_no_payload_is_the_services_fault() -> None:
    with pytest.raises(ServiceError, match="is not a payload.*is this an edgegrain service"):
        read_payload(b"<!doctype html>", Payload)
    with pytest.raises(ServiceError, match="is not a scene"):
        read_payload(b"<!doctype html>", Scene)
    for wrong in (b"<!doctype html>", b"[]", b'{"faces": 5}', b'{"faces": [{}]}', b'{"faces": [{"payload": "?"}]}',
                  b'{"faces": [{"payload": "AAAA"}]}', b"[" * 200_000):
        with pytest.raises(ServiceError, match="is not a list of payloads"):
            read_faces(wrong)


def test_only_options_that_differ_from_the_defaults_are_sent() -> None:
    """So that services up to 0.6, which refuse parameters that they do not know, compress for this client."""
    assert compress_call(b"", (0, 0, 0), None).params == {"background": "000000"}
    call = compress_call(b"", (0, 0, 0), "x", "tiny", 9, fit="crop", align=False, require_face=True, faces="scene")
    assert call.params == {
        "background": "000000", "bundle": "x", "quality": "tiny", "max_bytes": "9", "fit": "crop", "align": "false",
        "require_face": "true", "faces": "scene"}


@pytest.mark.parametrize("answer", [
    b"[" * 200_000, b"nonsense", b"{}", b'""', b"[3]", b'[{"id": "x"}]', *(
        json.dumps([{**FIELDS, **described}]).encode() for described in (
            {"step": "x"}, {"step": None}, {"hr": 1e400}, {"hr": True}, {"lr_contract_id": 5}, {"id": ["x"]}))])
def test_bundles_that_are_none(answer: bytes) -> None:
    with pytest.raises(ServiceError, match="is not a list of bundles"):
        read_bundles(answer)
    assert "status 500: its answer has no explanation" in str(read_refusal(500, answer))


def test_refusals_without_escapes_for_terminals() -> None:
    for kind in ("invalid-picture", "internal"):
        problem = {"type": f"urn:edgegrain:problem:{kind}", "detail": "a\x1b[31mb\n\u202ec"}
        assert str(read_refusal(422, json.dumps(problem).encode())).endswith("a [31mb  c")


@pytest.mark.parametrize("background", [(255, 0, 0), np.array([255, 0, 0]), b"\xff\0\0"])
def test_a_background_is_what_it_is_locally(background: Any) -> None:
    assert compress_call(b"", background, None).params["background"] == "ff0000"


@pytest.mark.parametrize(("argument", "wrong"), [
    ("background", 3), ("background", (1, 2, 256)), ("max_bytes", 0), ("max_bytes", "9"), ("max_bytes", 2.0)])
def test_arguments_of_compressing(argument: str, wrong: Any) -> None:
    with pytest.raises(ImageError, match=r"a background colour is|max_bytes must be"):
        compress_call(b"", **{"background": (0, 0, 0), "bundle": None, argument: wrong})


def test_huge_numbers() -> None:
    assert compress_call(b"", (0, 0, 0), None, max_bytes=10**5000).params["max_bytes"] == str(
        remote_calls.MAX_SCENE_BYTES)
    with pytest.raises(ImageError, match="a strength is a number"):
        restore_call(b"", "native", None, 10**400, 1)


def test_a_long_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_calls, "MAX_FILE_BYTES", 100)
    (tmp_path / "me.jpg").write_bytes(bytes(100))
    assert picture_file(tmp_path / "me.jpg", (0, 0, 0), 1) == bytes(100)
    assert picture_file(io.BytesIO(bytes(100)), (0, 0, 0), 1) == bytes(100)
    with pytest.raises(ImageError, match="download it first"):
        picture_file("https://example.org/me.jpg", (0, 0, 0), 1)
    with pytest.raises(ImageError, match="/dev/zero has more than 100 bytes"):
        picture_file("/dev/zero", (0, 0, 0), 1)


def test_lack_of_memory_is_not_the_services_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DeviceMemoryError, match="too little memory"):
        read_picture(b"", 1)


def test_pauses_grow_up_to_a_limit() -> None:
    retries = sdk.Retries(attempts=10, first_pause=1, longest_pause=4, patience=1000)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (4, 4), (9, 4)):
        pauses = [retries.pause(attempt, 0, None) for _ in range(50)]
        assert all(pause is not None and most / 2 <= pause <= most for pause in pauses)
        assert len(set(pauses)) > 1  # clients do not come back together
    assert retries.pause(10, 0, None) is None
    pause = sdk.Retries(attempts=5000, patience=1000).pause(4000, 0, None)
    assert pause is not None and 5 <= pause <= 10


@pytest.mark.parametrize("wrong", [
    {"attempts": 2.0}, {"first_pause": -1}, {"longest_pause": float("nan")}, {"patience": float("inf")},
    {"patience": None}])
def test_values_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(sdk.ServiceError, match=f"{next(iter(wrong))} is a (whole )?number"):
        sdk.Retries(**wrong)


def test_pauses_are_as_long_as_asked_for_within_the_patience() -> None:
    """Patience is for all pauses together, and jitter does not exceed it."""
    retries = sdk.Retries(first_pause=0.5)
    assert all(7 <= (retries.pause(1, 0, 7) or 0) <= 7.5 for _ in range(50))
    retries = sdk.Retries(patience=10, first_pause=0.001)
    assert retries.pause(1, 0, 9) is not None
    assert retries.pause(2, 9, 2) is retries.pause(1, 0, 3600) is None
    retries = sdk.Retries()
    assert retries.pause(1, 0, 60) == retries.patience
    assert retries.pause(2, 0.3, 59.7) == pytest.approx(59.7)
    assert retries.pause(2, 0.4, 59.7) is None


@pytest.mark.parametrize(("value", "expected"), [
    (None, None), ("3", 3.0), (" 12 ", 12.0), ("0", 0.0), ("-3", None), ("soon", None), ("", None), ("1.5", None),
    ("Wed, 21 Oct 2015 07:28:00 GMT", None)])
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value) == expected


CONNECT = pytest.mark.parametrize("connect", [sdk.connect, sdk.connect_async])


@pytest.mark.parametrize("url", [
    "", "host:8000", "ftp://host", "http://", "http://host?x=1", "/path", "http://ho\x01st", "http://ho\nst",
    "http://host/\x7f", f"http://{'a' * 64}.example", "http://a..example", f"http://{'ü' * 60}", "http://xn--a.com",
    "http://999.1.1.1", "http://\ud800", "http://host/\ud800", "http://[::1", "http://host:abc", "http://host:70000",
    "http://host#x", 5, None, b"http://host"])
def test_addresses_that_are_none(url: Any) -> None:
    with pytest.raises(sdk.ServiceError, match="not the address of a service, expected the form"):
        sdk.connect(url)


@pytest.mark.parametrize("url", ["http://user:s3cret@host", "http://s3cret@host:8000/x", "http://user:s3cret@host:abc"])
def test_passwords_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(sdk.ServiceError, match="holds no user name and password|expected the form") as caught:
        sdk.connect(url)
    assert "s3cret" not in str(caught.value)


def test_addresses_lose_their_last_slash() -> None:
    assert sdk.connect("https://[::1]:8443/edgegrain/").url == "https://[::1]:8443/edgegrain"


@CONNECT
@pytest.mark.parametrize(("option", "values", "message"), [
    ("timeout", (0, -1.0, float("nan"), None, "3", float("inf"), 1e10),
     "a timeout is a positive number of seconds, at most 1000000, got"),
    ("concurrency", (0, -1, 1.5, None), "concurrency is a number of requests, at least 1, got"),
    ("retries", (None, "3", 2.0), "retries is a number of attempts or an sdk.Retries, got")])
def test_options_that_are_none(
    connect: Callable[..., object], option: str, values: tuple[object, ...], message: str
) -> None:
    for value in values:
        with pytest.raises(sdk.ServiceError, match=message):
            connect("http://host", **{option: value})


@CONNECT
@pytest.mark.parametrize("token", [
    b"swordfish", 5, "", "swordfish\n", "é-swordfish", "my swordfish", "swordfish\x00", "\ud800swordfish"])
def test_tokens_that_are_none(connect: Callable[..., object], token: str) -> None:
    with pytest.raises(sdk.ServiceError, match="expected printable ASCII without spaces") as caught:
        connect("http://host", token=token)
    assert "swordfish" not in str(caught.value)


@CONNECT
def test_without_httpx_the_error_says_what_to_install(
    connect: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(sdk.ServiceError, match=r"pip install 'edgegrain\[remote\]'"):
        connect("http://host")


@CONNECT
@pytest.mark.parametrize(("variable", "value", "found"), [
    ("ALL_PROXY", "socks5://localhost:1080", "SOCKS proxy"),
    ("ALL_PROXY", "gopher://localhost:70", "Unknown scheme"),
    ("HTTPS_PROXY", "http://user:s3cret/@localhost:8080", "the address of a proxy is invalid"),
    ("SSL_CERT_FILE", "/nowhere/certificates.pem", "No such file"),
    ("SSL_CERT_FILE", os.devnull, "no certificate"),
])
def test_unusable_proxies_and_certificates(
    connect: Callable[[str], object], variable: str, value: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(sdk.ServiceError, match=f"environment: .*{found}.*; change or unset .*{variable}") as caught:
        connect("http://localhost:1")
    assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)
