"""Compression at a quality or within a number of bytes, by a service of three tiny bundles and by its clients."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

import sdk
from codec_contract.bundle.find import rates_from
from tests.pictures import encoded
from tests.service_harness import LiveService, assert_problem, get, live_service, post
from tests.tiny_bundle import add_rates, refresh_manifest, write_qualities, write_tiny_bundle

RGB = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_qualities(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def payloads(folders: dict[str, Path]) -> dict[str, sdk.Payload]:
    return {quality: sdk.Codec(folder).compress(RGB) for quality, folder in folders.items()}


@pytest.fixture(scope="module")
def service(folders: dict[str, Path]) -> Iterator[LiveService]:
    """The second quality is served first."""
    with live_service(folders["small"], folders["tiny"], folders["medium"]) as running:
        yield running


def compress(service: LiveService, query: str) -> httpx.Response:
    return post(f"{service.url}/v1/compress{query}", encoded(RGB), headers={"Content-Type": "image/png"})


def test_quality_and_limit_choose_the_bundle(
    service: LiveService, payloads: dict[str, sdk.Payload], folders: dict[str, Path]
) -> None:
    largest = len(payloads["medium"])
    for query, quality in (
        ("", "small"),
        ("?quality=tiny", "tiny"),
        (f"?max_bytes={largest}", "medium"),
        (f"?max_bytes={largest - 1}", "small"),
        ("?quality=tiny&max_bytes=9999", "tiny"),
        (f"?bundle={folders['tiny'].name}&quality=medium", "medium"),
    ):
        answer = compress(service, query)
        assert answer.content == payloads[quality], query
        assert answer.headers["X-Edgegrain-Bundle"] == folders[quality].name
    listed = {item["quality"]: item["id"] for item in get(f"{service.url}/v1/bundles").json()}
    assert listed == {quality: folder.name for quality, folder in folders.items()}


def test_rates_of_a_bundle(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path)
    add_rates(folder, {8: None, 32: "tiny"})
    refresh_manifest(folder, quality="small")
    codec = sdk.Codec(folder)
    fitted = codec.fit(RGB)
    payloads = [codec._pack(codec._lr(fitted), fitted, rate) for rate in rates_from(codec._manifest)]
    with live_service(folder) as service:
        for query, payload in (
            ("", payloads[0]),
            ("?quality=tiny", payloads[2]),
            (f"?max_bytes={len(payloads[1])}", payloads[1]),
            ("?quality=small&max_bytes=" + str(len(payloads[2])), payloads[2]),
        ):
            assert compress(service, query).content == payload, query
            assert post(f"{service.url}/v1/restore", payload).status_code == 200
        (described,) = get(f"{service.url}/v1/bundles").json()
        rates = [(rate["file"], rate["quality"]) for rate in described["rates"]]
        assert rates == [("coder_8.json", None), ("coder_32.json", "tiny")]
        urls = {file["name"]: file["url"] for file in described["contract"]}
        assert get(service.url + urls["coder_32.json"]).content == (folder / "coder_32.json").read_bytes()
        assert get(service.url + urls["coder_32.json"].replace("32", "xx")).status_code == 422


@pytest.mark.parametrize(
    ("query", "kind", "detail"),
    [
        ("max_bytes=20", "invalid-picture", "no quality fits into 20 bytes"),
        ("quality=large", "invalid-parameter", "of quality large, only: tiny, small, medium"),
        ("quality=huge", "invalid-parameter", ""),
        ("max_bytes=0", "invalid-parameter", ""),
    ],
)
def test_what_does_not_fit_is_refused(service: LiveService, query: str, kind: str, detail: str) -> None:
    assert detail in assert_problem(compress(service, f"?{query}"), 422, kind)["detail"]


async def test_clients_pass_both_on(service: LiveService, payloads: dict[str, sdk.Payload]) -> None:
    limit = len(payloads["small"])
    with sdk.connect(service.url) as remote:
        assert remote.compress(RGB, quality="medium") == payloads["medium"]
        assert remote.compress_batch([RGB], max_bytes=limit) == [payloads["small"]]
        with pytest.raises(sdk.ImageError, match="no quality fits into 20 bytes"):
            remote.compress(RGB, max_bytes=20)
    async with sdk.connect_async(service.url) as other:
        assert await other.compress(RGB, quality="tiny") == payloads["tiny"]
        assert await other.compress_batch([RGB], max_bytes=limit) == [payloads["small"]]
