"""The control ``strength`` from a user's number to the picture: SDK, command line, service, remote clients.

The bundle's decoder makes pictures brighter by half the strength, so the expected picture is known.
"""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from pathlib import Path
from unittest.mock import patch

import httpx
import numpy as np
import pytest
from PIL import Image

import sdk
from codec_contract.bundle import find as bundle_paths
from codec_contract.bundle.manifest import load_manifest
from codec_contract.lr_coder.coder_tables import CoderTables
from codec_contract.payload import CODING_RAW, encode_payload
from edgegrain.service.engine import Engine, RestoreOptions
from server_decoder.decoder_session import DecoderSession
from tests.service_harness import SOON, LiveService, live_service, raw_payloads
from tests.tiny_bundle import HR, LR, STRENGTH_DEFAULT, write_steered_bundle, write_tiny_bundle
from tests.unit.edgegrain.cli.conftest import Shell

LEVEL = 100
BUNDLE = "steered-64-lr16"


def brightness(strength: float | None) -> int:
    return LEVEL + int(STRENGTH_DEFAULT if strength is None else strength) // 2


def level(picture: Image.Image | bytes) -> int:
    """Of a picture of one level; fails if it has several."""
    image = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture
    (found,) = np.unique(np.asarray(image))
    return int(found)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("strength")
    write_steered_bundle(root)
    write_tiny_bundle(root)
    return root


@pytest.fixture(scope="module")
def payload(root: Path) -> bytes:
    lr, contract = np.full((LR, LR, 3), LEVEL, np.uint8), load_manifest(root / BUNDLE).lr_contract_id
    options = {"contract_id": contract, "tables": CoderTables.default(), "coding": CODING_RAW}
    return encode_payload(lr, original_size=(HR, HR), **options)


@pytest.fixture(scope="module")
def service(root: Path) -> Iterator[LiveService]:
    with live_service(root / BUNDLE, root / "tiny-64-lr16", deadline=60) as service:
        yield service


@pytest.fixture
def installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_paths, "bundle_roots", lambda: (root,))


class TestSdk:
    def test_one_payload(self, root: Path, payload: bytes) -> None:
        for strength in (4, 16.0, np.float32(24), 64, None):
            picture = sdk.restore(payload, root / BUNDLE, strength=strength)
            assert level(picture) == brightness(strength)

    def test_the_strength_of_a_batch(self, root: Path, payload: bytes) -> None:
        restored = sdk.Codec(root / BUNDLE).restore_batch(iter([payload] * 3), strength=np.float32(24))
        assert [level(picture) for picture in restored] == [112] * 3

    def test_refusals(self, root: Path, payload: bytes) -> None:
        codec, plain = sdk.Codec(root / BUNDLE), sdk.Codec(root / "tiny-64-lr16")
        with pytest.raises(sdk.ImageError, match="a number from 4 to 64, got 65"):
            codec.restore(payload, strength=65)
        with pytest.raises(sdk.ImageError, match="^payload 0: .* a number from 4 to 64, got 65"):
            codec.restore_batch([payload], strength=65)
        with pytest.raises(sdk.ImageError, match="bundle tiny-64-lr16 has no control 'strength'"):
            plain.restore(np.zeros((LR, LR, 3), np.uint8), strength=16)

    def test_the_bundle_says_so(self, root: Path, payload: bytes, installed: None) -> None:
        control = sdk.Codec(root / BUNDLE).bundle.controls["strength"]
        assert (control.least, control.most, control.default) == (4, 64, STRENGTH_DEFAULT)
        assert sdk.inspect(payload).controls == {"strength": control}


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


class TestCommandLine:
    def test_restore(self, installed: None, payload: bytes, tmp_path: Path, shell: Shell, service: LiveService) -> None:
        path = sdk.Payload(payload).save(tmp_path / "me.grain")
        out = tmp_path / "out.png"
        for strength, extra in ((24, ()), (40, ("--force",)), (48, ("--force", "--remote", service.url))):
            shell.ok("restore", path, "--out", out, "--strength", strength, *extra)
            assert level(out.read_bytes()) == brightness(strength)
        shell.fails("a number from 4 to 64, got 2.0", "restore", path, "--out", tmp_path / "no.png", "--strength", 2)
        assert not (tmp_path / "no.png").exists()

    def test_controls_are_named(self, installed: None, payload: bytes, tmp_path: Path, shell: Shell) -> None:
        path = sdk.Payload(payload).save(tmp_path / "me.grain")
        assert "\n  strength  4 to 64, 8 if not given; restore --strength\n" in shell.ok("info", path)
        assert "\n  control strength: 4 to 64, 8 if not given\n" in shell.ok("bundles")
        described = {"least": 4, "most": 64, "default": STRENGTH_DEFAULT}
        rows = {row["id"]: row for row in shell.json("bundles")}
        assert rows[BUNDLE]["controls"] == {"strength": described} and rows["tiny-64-lr16"]["controls"] == {}


def form_parts(service: LiveService, payloads: list[bytes], **parameters: object) -> list[bytes]:
    """The parts of the answer to a form of these payloads."""
    files = [("payload", (str(index), payload)) for index, payload in enumerate(payloads)]
    answer = httpx.post(f"{service.url}/v1/restore/batch", files=files, params=parameters, timeout=SOON)
    assert answer.status_code == 200, answer.text
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    return [part.get_payload(decode=True) for part in message_from_bytes(head + answer.content).get_payload()]


class TestService:
    def test_strengths_that_meet_in_a_batch_do_not_mix(self, root: Path, payload: bytes, service: LiveService) -> None:
        chosen = [4, 64, 16, 40]
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda strength: service.restore(payload, params={"strength": strength}), chosen)
            levels = [level(answer.content) for answer in answers]
        assert levels == [brightness(strength) for strength in chosen]
        assert level(service.restore(payload).content) == brightness(None)
        # The same in one call of the network, for certain: three of a batch of four that was warmed up.
        engine = Engine([root / BUNDLE], threads=1, batch_sizes=(1, 4))
        options = [RestoreOptions(strength=strength) for strength in (4, None, 2, 64)]
        with patch.object(DecoderSession, "decode", autospec=True, side_effect=DecoderSession.decode) as decode:
            outcomes = engine.restore(BUNDLE, [payload] * 4, options)
        assert [call.kwargs["strength"] for call in decode.call_args_list] == [[4, STRENGTH_DEFAULT, 64, 4]]
        assert [level(item) for item in outcomes if isinstance(item, bytes)] == [102, 104, 132]
        assert isinstance(outcomes[2], sdk.ImageError)

    def test_a_form_with_a_payload_of_a_bundle_without_it(
        self, root: Path, payload: bytes, service: LiveService
    ) -> None:
        plain = raw_payloads(root / "tiny-64-lr16", 1)[0]
        first, refused, last = form_parts(service, [payload, plain, payload], strength=20)
        assert [level(first), level(last)] == [110, 110]
        problem = json.loads(refused)
        assert (problem["status"], problem["type"]) == (422, "urn:edgegrain:problem:invalid-parameter")
        assert "bundle tiny-64-lr16 has no control 'strength'" in problem["detail"]
        assert problem["errors"][0]["parameter"] == "strength"

    @pytest.mark.parametrize(
        ("strength", "detail"),
        [(3, "a number from 4 to 64, got 3"), (-1, "greater than 0"), ("nan", "finite"), ("much", "valid number")],
    )
    def test_out_of_range(self, payload: bytes, service: LiveService, strength: object, detail: str) -> None:
        answer = service.restore(payload, params={"strength": strength})
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (422, "urn:edgegrain:problem:invalid-parameter")
        assert detail in problem["detail"] and problem["errors"][0]["parameter"] == "strength"

    def test_what_the_service_says(self, service: LiveService) -> None:
        offered = {item["id"]: item["controls"] for item in httpx.get(f"{service.url}/v1/bundles").json()}
        control = {"least": 4, "most": 64, "default": STRENGTH_DEFAULT}
        assert offered == {BUNDLE: {"strength": control}, "tiny-64-lr16": {}}


class TestRemote:
    def test_one_and_several(self, service: LiveService, payload: bytes) -> None:
        with sdk.connect(service.url) as remote:
            assert level(remote.restore(payload, strength=24)) == 112
            assert [level(picture) for picture in remote.restore_batch([payload] * 2, strength=64)] == [132, 132]
            with pytest.raises(sdk.ServiceError, match="a number from 4 to 64, got 2"):
                remote.restore(payload, strength=2)
