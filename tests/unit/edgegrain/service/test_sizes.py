"""Sizes of pictures: equal to the SDK's, of a bundle with an enlarger too, and limited before a body is decoded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdk
from codec_contract.bundle.manifest import load_manifest
from codec_contract.errors import ImageError, PayloadError
from codec_contract.fit import Size
from codec_contract.oriented_square import OrientedSquare
from edgegrain.service.batcher import Job
from edgegrain.service.engine import Engine, RestoreOptions
from edgegrain.service.settings import Settings
from edgegrain.service.state import ServiceState
from tests.service_harness import LiveService, assert_problem, get, live_service, pixels, raw_payload, raw_payloads
from tests.tiny_bundle import write_tiny_bundle

BUNDLE = "tiny-64-lr16"


@pytest.fixture(scope="module")
def service(enlarging: Path) -> Iterator[LiveService]:
    with live_service(enlarging, max_pixels=200 * 200) as service:
        yield service


def payload(folder: Path, size: tuple[int, int] = (300, 200), *, side: int = 16, **options: Any) -> sdk.Payload:
    return sdk.Payload(raw_payload(load_manifest(folder), np.zeros((side, side, 3), np.uint8), size, **options))


async def job(folder: Path, data: sdk.Payload, size: Any = "original", most: int = 60_000, kind: str = "png") -> Job:
    state = ServiceState(Settings(bundles=(str(folder),), max_pixels=most))
    return state.restore_job(data, RestoreOptions(size, kind))


@pytest.mark.parametrize("size", ["original", "native", 10, 64, 128, 200])
def test_pictures_equal_the_sdk_s(service: LiveService, enlarging: Path, size: Size) -> None:
    codec = sdk.Codec(enlarging, threads=1)
    for original in ((64, 64), (150, 100)):
        (payload,) = raw_payloads(enlarging, 1, size=original)
        answer = service.restore(payload, params={"size": size})
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(pixels(answer.content), codec.restore(payload, size=size))
    enlarged = size in ("original", 128, 200)
    assert ("enlarge;dur=" in answer.headers["server-timing"]) == enlarged


def test_the_client_passes_the_size_on(service: LiveService, enlarging: Path) -> None:
    (payload,) = raw_payloads(enlarging, 1, size=(150, 100))
    with sdk.connect(service.url) as remote:
        expected = sdk.Codec(enlarging, threads=1).restore(payload, size=128)
        np.testing.assert_array_equal(remote.restore(payload, size=128), expected)
        assert [item.size for item in remote.restore_batch([payload] * 2, size=96)] == [(96, 64)] * 2
        with pytest.raises(sdk.ServiceError, match="status 422: bundle .* up to 256 pixels, not at 257"):
            remote.restore(payload, size=257)


@pytest.mark.parametrize("size", ["257", "65536", "0", "-1", "64.0", "064", "1e3", "big", "", "9" * 5000])
def test_other_sizes_are_wrong_parameters(service: LiveService, enlarging: Path, size: str) -> None:
    answer = service.restore(raw_payloads(enlarging, 1)[0], params={"size": size})
    assert [item["parameter"] for item in assert_problem(answer, 422, "invalid-parameter")["errors"]] == ["size"]


def test_sides_are_listed(service: LiveService) -> None:
    (listed,) = get(f"{service.url}/v1/bundles").json()
    assert listed["sides"] == [64, 128, 256]


async def test_jobs_of_one_factor_share_batches(service: LiveService, enlarging: Path) -> None:
    sizes: list[Size] = ["native", 64, 65, 128, 129, "original"]
    wide = payload(enlarging, (100, 10))
    jobs = [service.state.restore_job(wide, RestoreOptions(size)) for size in sizes]
    assert [job.key.enlargement for job in jobs] == [1, 1, 2, 2, 4, 2]


def test_options_are_each_item_s_own(enlarging: Path) -> None:
    engine = Engine([enlarging], threads=1, batch_sizes=(1, 4))
    payloads = raw_payloads(enlarging, 4, size=(100, 100))
    sizes = [RestoreOptions("native"), RestoreOptions(256)]
    options = [*sizes, RestoreOptions(format="jpeg", quality=5), RestoreOptions(257)]
    *outcomes, refused = engine.restore(BUNDLE, payloads, options)
    codec = sdk.Codec(enlarging, threads=1)
    for outcome, data, wanted in zip(outcomes, payloads, sizes, strict=False):
        assert isinstance(outcome, bytes)
        np.testing.assert_array_equal(pixels(outcome), codec.restore(data, size=wanted.size))
    assert isinstance(outcomes[2], bytes) and outcomes[2].startswith(b"\xff\xd8") and len(outcomes[2]) < 4000
    assert isinstance(refused, sdk.ImageError) and "not at 257" in str(refused)


def test_both_factors_are_warmed_up(enlarging: Path) -> None:
    taken = Engine([enlarging], threads=1).warm_up()
    kinds = [(verb, enlargement) for verb, _, enlargement, _ in taken]
    assert kinds == [("compress", 1), ("restore", 1), ("restore", 2), ("restore", 4)]
    assert 0 < taken[1][3] < min(taken[2][3], taken[3][3]) < 60


def test_a_damaged_enlarger_is_found_at_the_start(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, doublings=1)
    (folder / "enlarger_x2.onnx").write_bytes(b"altered")
    with pytest.raises(sdk.BundleError, match=r"enlarger_x2\.onnx"):
        Engine([folder])


async def test_pixels_of_the_result(tiny_bundle: Path, enlarging: Path) -> None:
    for fit, count in (("pad", 60_000), ("stretch", 60_000), ("crop", 40_000)):
        data = payload(tiny_bundle, fit=fit)
        assert [(await job(tiny_bundle, data, size)).pixels for size in ("original", "native")] == [count, 4096]
    for original, size, side in (  # the enlarged square counts
        ((300, 200), "native", 64),
        ((300, 200), 64, 64),
        ((300, 200), 65, 128),
        ((300, 200), "original", 256),
        ((300, 200), 256, 256),
        ((100, 50), "original", 128),
        ((1, 1), "original", 64),
    ):
        assert (await job(enlarging, payload(enlarging, original), size)).pixels == side**2


async def test_of_an_aligned_picture_the_square_counts(tiny_bundle: Path) -> None:
    aligned = payload(tiny_bundle, fit="align", square=OrientedSquare(400, 400, 320, 240))
    assert (await job(tiny_bundle, aligned, most=10_000)).pixels == 10_000
    with pytest.raises(ImageError, match="100 x 100 pixels, more than 9999"):
        await job(tiny_bundle, aligned, most=9_999)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"contract_id": b"abcd" * 8}, PayloadError, "LR contract 6162, .*available: "),
        ({"side": 8}, PayloadError, "LR of 8 x 8, bundle .* works with 16 x 16"),
        ({"size": (301, 200)}, ImageError, "301 x 200 pixels, more than 60000"),
        ({"size": (30000, 2)}, ImageError, "have at most 16383"),
    ],
)
async def test_refusals(enlarging: Path, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        await job(enlarging, payload(enlarging, **changes), kind="webp")
