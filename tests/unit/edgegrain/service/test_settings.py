"""Settings from arguments and the environment."""

import pytest
from pydantic import ValidationError

from codec_contract.errors import ServiceError
from edgegrain.service.settings import Settings, check_variables

TOKEN = "0123456789abcdef"


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"BUNDLES": "faces, my-bundle/", "BATCH_SIZES": "9,3", "PORT": "0", "DEADLINE": "2.5", "DOCS": "true"}
    for name, value in {**given, "TOKENS": f"{TOKEN},{TOKEN}2", "CORS_ORIGINS": ""}.items():
        monkeypatch.setenv(f"EDGEGRAIN_SERVE_{name}", value)
    settings = Settings()
    assert (settings.bundles, settings.batch_sizes) == (("faces", "my-bundle/"), (1, 3, 9))
    assert (settings.port, settings.deadline, settings.docs, settings.cors_origins) == (0, 2.5, True, ())
    assert [token.get_secret_value() for token in settings.tokens] == [TOKEN, f"{TOKEN}2"]
    assert Settings(port=9).port == 9  # arguments take precedence


def test_secrets_are_not_printed() -> None:
    settings = Settings(tokens=TOKEN)
    assert TOKEN not in repr(settings) + str(settings) + str(settings.tokens)


WRONG = {"port": [70000], "batch_sizes": ["0,4", ""], "bundles": [""], "workers": [0], "deadline": [0], "prot": [1]}
WRONG |= {"device": ["npu"], "threads": [2**31], "decoder_form": ["cuda"], "formats": ["jpeg,eps"]}
WRONG |= {"tokens": ["short", "with space in the middle", ",", " ,", "  "]}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_wrong_values(name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("EDGEGRAIN_SERVE_TOKENS", "", "TOKENS is empty, so every client could call"),
        ("EDGEGRAIN_SERVE_TOKEN", "", "EDGEGRAIN_SERVE_TOKEN; correct or unset the variable"),
        ("edgegrain_serve_service_host", "1", "edgegrain_serve_service_host; .* on Kubernetes set enableServiceLinks"),
    ],
)
def test_variables_that_are_refused(variable: str, value: str, message: str) -> None:
    with pytest.raises(ServiceError, match=message):
        check_variables({variable: value})


def test_variables_that_are_ignored() -> None:
    check_variables({f"EDGEGRAIN_SERVE_{name.upper()}": "1" for name in Settings.model_fields})
    check_variables({"edgegrain_serve_Tokens": "1", "EDGEGRAIN_TOKEN": "1", "EDGEGRAIN_SERVER": "1"})
