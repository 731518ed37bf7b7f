"""Settings from arguments and the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from codec_contract.errors import ServiceError
from edgegrain.service.settings import Settings, check_variables

TOKEN = "0123456789abcdef"


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BUNDLES": "faces, my-bundle/", "BATCH_SIZES": "1,3,9", "PORT": "0", "DEADLINE": "2.5",
                        "TOKENS": f"{TOKEN},{TOKEN}2", "DOCS": "true", "CORS_ORIGINS": ""}.items():
        monkeypatch.setenv(f"EDGEGRAIN_SERVE_{name}", value)
    settings = Settings()
    assert (settings.bundles, settings.batch_sizes) == (("faces", "my-bundle/"), (1, 3, 9))
    assert (settings.port, settings.deadline, settings.docs, settings.cors_origins) == (0, 2.5, True, ())
    assert [token.get_secret_value() for token in settings.tokens] == [TOKEN, f"{TOKEN}2"]
    assert Settings(port=9).port == 9  # arguments take precedence


def test_secrets_are_not_printed() -> None:
    settings = Settings(tokens=TOKEN)
    assert TOKEN not in repr(settings) + str(settings) + str(settings.tokens)


@pytest.mark.parametrize("wrong", [
    {"port": 70000}, {"batch_sizes": "2,4"}, {"batch_sizes": "1,4,2"}, {"batch_sizes": ""}, {"bundles": ""},
    {"tokens": "short"}, {"tokens": "with space in the middle"}, {"tokens": ","}, {"tokens": " ,"}, {"tokens": "  "},
    {"workers": 0}, {"deadline": 0}, {"device": "npu"}, {"prot": 1}, {"threads": 2**31}, {"decoder_form": "cuda"},
    {"formats": "jpeg,eps"}])
def test_wrong_values(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_tokens_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    for content, message in ((None, "cannot read"), ("", "holds no token"), ("short\n", "at least 16")):
        if content is not None:
            path.write_text(content)
        with pytest.raises(ServiceError, match=message):  # the door would be open
            Settings(tokens_file=path).all_tokens()
    path.write_text(f"{TOKEN}a\n{TOKEN}b\n")
    assert Settings(tokens=TOKEN, tokens_file=path).all_tokens() == tuple(
        map(SecretStr, [TOKEN, f"{TOKEN}a", f"{TOKEN}b"]))


@pytest.mark.parametrize("variable", ["EDGEGRAIN_SERVE_TOKENS", "edgegrain_serve_tokens_file"])
def test_empty_variables_of_tokens(variable: str) -> None:
    with pytest.raises(ServiceError, match=f"{variable} is empty, so every client could call"):
        check_variables({variable: ""})


@pytest.mark.parametrize(("variable", "message"), [
    ("EDGEGRAIN_SERVE_TOKEN", r"EDGEGRAIN_SERVE_TOKEN \(similar: EDGEGRAIN_SERVE_TOKENS\); correct"),
    ("edgegrain_serve_deadlines", r"edgegrain_serve_deadlines \(similar: EDGEGRAIN_SERVE_DEADLINE\)"),
    ("EDGEGRAIN_SERVE_SERVICE_HOST", "EDGEGRAIN_SERVE_SERVICE_HOST; .* on Kubernetes set enableServiceLinks: false"),
    ("EDGEGRAIN_SERVE_XYZZY", "EDGEGRAIN_SERVE_XYZZY; correct or unset the variable"),
    ("EDGEGRAIN_SERVE_", "EDGEGRAIN_SERVE_;")])
@pytest.mark.parametrize("value", ["", "1"])
def test_variables_that_are_no_settings(variable: str, message: str, value: str) -> None:
    with pytest.raises(ServiceError, match=message):
        check_variables({variable: value})


def test_variables_that_are_ignored() -> None:
    check_variables({f"EDGEGRAIN_SERVE_{name.upper()}": "1" for name in Settings.model_fields})
    check_variables({"edgegrain_serve_Tokens": "1", "EDGEGRAIN_TOKEN": "1", "EDGEGRAIN_SERVER": "1"})
