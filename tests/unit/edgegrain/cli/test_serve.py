"""``edgegrain serve`` up to the point where it listens, and ``--remote`` up to the point where it asks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import sdk
from codec_contract.fit import MAX_PHOTO_PIXELS
from edgegrain.cli.main import app
from edgegrain.service import app as server
from edgegrain.service.settings import Settings

pytestmark = pytest.mark.usefixtures("tiny_bundles")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        app([str(argument) for argument in arguments])
    return int(leaving.value.code or 0)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that would have been served."""
    calls: list[Settings] = []
    monkeypatch.setattr(server, "serve", calls.append)
    return calls


def test_options_win_over_the_environment(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEGRAIN_SERVE_PORT", "1000")
    monkeypatch.setenv("EDGEGRAIN_SERVE_QUEUE_SIZE", "7")
    assert run("serve", "--port", 2000, "--bundle", "a", "--bundle", "b", "--device", "cpu", "--deadline", "0.5") == 0
    (settings,) = served
    assert (settings.port, settings.queue_size, settings.bundles) == (2000, 7, ("a", "b"))
    assert run("serve", "--queue-size", 5) == 0 and served[1].queue_size == 5
    assert (settings.deadline, settings.workers, settings.host) == (0.5, 1, "127.0.0.1")


def test_show_settings_hides_tokens(
    served: list[Settings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEGRAIN_SERVE_TOKENS", "0123456789abcdef")
    assert run("serve", "--workers", 3, "--show-settings") == 0
    out = capsys.readouterr().out
    assert "EDGEGRAIN_SERVE_WORKERS=3\n  Worker processes" in out and "EDGEGRAIN_SERVE_BATCH_SIZES=1,2,4,8\n" in out
    assert "EDGEGRAIN_SERVE_TOKENS=***" in out and "0123456789abcdef" not in out
    assert out.count("EDGEGRAIN_SERVE_") == len(Settings.model_fields) and not served


def test_a_wrong_variable_is_one_line(
    served: list[Settings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEGRAIN_SERVE_TOKENS", "short")
    monkeypatch.setenv("EDGEGRAIN_SERVE_DEADLINE", "soon")
    assert run("serve") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert "setting tokens: a token is at least" in err and "setting deadline: " in err and "short" not in err


def test_a_misspelt_variable(
    served: list[Settings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEGRAIN_SERVE_TOKEN", "0123456789abcdef")
    assert run("serve") == 1 and not served
    err = capsys.readouterr().err
    assert err.startswith("error: not a setting: EDGEGRAIN_SERVE_TOKEN (similar: EDGEGRAIN_SERVE_TOKENS)")
    assert err.count("\n") == 1 and "0123456789abcdef" not in err
    assert run("serve", "--show-settings") == 0


def test_a_missing_library_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "edgegrain.service.app")
    monkeypatch.setitem(sys.modules, "granian.constants", None)
    assert run("serve") == 1
    assert "serving needs granian" in (err := capsys.readouterr().err) and "pip install 'edgegrain[server]'" in err


@pytest.mark.parametrize("command", ["compress", "restore"])
def test_remote_that_is_none(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "me"
    path.write_bytes(b"anything")
    assert run(command, path, "--remote", "nowhere") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: 'nowhere' is not the address of a service") and err.count("\n") == 1


def test_remote_gets_what_the_options_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = sdk.compress(np.full((64, 64, 3), 128, np.uint8))
    calls: list[tuple[object, ...]] = []

    class Remote:
        def compress(self, source: Path, fit: str, **options: object) -> sdk.Payload:
            calls.append((source.name, fit, options))
            return payload

    def connect(url: str, *, token: str | None) -> Remote:
        calls.append((url, token))
        return Remote()

    monkeypatch.setattr(sdk, "connect", connect)
    monkeypatch.setenv("EDGEGRAIN_TOKEN", "secret")
    (tmp_path / "me.png").write_bytes(b"anything")
    assert run("compress", tmp_path / "me.png", "--remote", "http://host", "--fit", "crop", "--bundle", "x") == 0
    assert calls == [("http://host", "secret"), ("me.png", "crop", {
        "bundle": "x", "background": (255, 255, 255), "max_pixels": MAX_PHOTO_PIXELS, "align": True, "quality": None,
        "max_bytes": None})]
    assert (tmp_path / "me.grain").read_bytes() == payload
