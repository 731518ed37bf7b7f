"""``edgegrain serve`` up to the point where it listens, and ``--remote`` up to the point where it asks."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import sdk
from codec_contract.fit import MAX_PHOTO_PIXELS
from edgegrain.service import app as server
from edgegrain.service.settings import Settings
from tests.unit.edgegrain.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("tiny_bundles")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that would have been served."""
    calls: list[Settings] = []
    monkeypatch.setattr(server, "serve", calls.append)
    return calls


def test_options_win_over_the_environment(
    served: list[Settings], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEGRAIN_SERVE_PORT", "1000")
    monkeypatch.setenv("EDGEGRAIN_SERVE_QUEUE_SIZE", "7")
    shell.ok("serve", "--port", 2000, "--bundle", "a", "--bundle", "b", "--device", "cpu", "--threads", 3)
    (settings,) = served
    assert (settings.port, settings.queue_size, settings.bundles) == (2000, 7, ("a", "b"))
    assert (settings.threads, settings.workers, settings.host) == (3, 1, "127.0.0.1")


def test_show_settings_hides_tokens(served: list[Settings], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEGRAIN_SERVE_TOKENS", "0123456789abcdef")
    out = shell.ok("serve", "--workers", 3, "--show-settings")
    assert "EDGEGRAIN_SERVE_WORKERS=3\n  Worker processes" in out and "EDGEGRAIN_SERVE_BATCH_SIZES=1,2,4,8\n" in out
    assert "EDGEGRAIN_SERVE_TOKENS=***" in out and "0123456789abcdef" not in out
    assert out.count("EDGEGRAIN_SERVE_") == len(Settings.model_fields) and not served


def test_wrong_variables_are_one_line(served: list[Settings], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as wrong:
        wrong.setenv("EDGEGRAIN_SERVE_TOKENS", "short")
        wrong.setenv("EDGEGRAIN_SERVE_DEADLINE", "soon")
        err = shell.fails("error: setting deadline: ", "serve")
        assert err.count("\n") == 1 and "setting tokens: a token is at least" in err and "short" not in err
    monkeypatch.setenv("EDGEGRAIN_SERVE_TOKEN", "0123456789abcdef")
    err = shell.fails("error: not a setting: EDGEGRAIN_SERVE_TOKEN; correct", "serve")
    assert err.count("\n") == 1 and "0123456789abcdef" not in err and not served
    shell.ok("serve", "--show-settings")


def test_remote_that_is_none(picture: Path, shell: Shell) -> None:
    for command in ("compress", "restore"):
        shell.fails("error: 'nowhere' is not the address of a service", command, picture, "--remote", "nowhere")


def test_options_that_a_service_has_not(picture: Path, shell: Shell) -> None:
    for arguments in ("compress --max-megapixels 0.5", "restore --seed 1", "restore --device cuda"):
        command, *option = arguments.split()
        said, service = f"leave {option[0]} or --remote out", ("--remote", "http://localhost:1")
        shell.fails(said, command, picture, *option, *service, status=2)


def test_remote_gets_what_the_options_say(picture: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = sdk.compress(np.full((64, 64, 3), 128, np.uint8))
    connect = Mock(**{"return_value.compress.return_value": payload})
    monkeypatch.setattr(sdk, "connect", connect)
    monkeypatch.setenv("EDGEGRAIN_TOKEN", "secret")
    shell.ok("compress", picture, "--remote", "http://host/v1/", "--fit", "crop", "--bundle", "x")
    connect.assert_called_once_with("http://host", token="secret")
    given = {"bundle": "x", "max_pixels": MAX_PHOTO_PIXELS, "align": True, "require_face": False}
    connect.return_value.compress.assert_called_once_with(picture, "crop", **given, quality=None, max_bytes=None)
    assert picture.with_suffix(".grain").read_bytes() == payload
