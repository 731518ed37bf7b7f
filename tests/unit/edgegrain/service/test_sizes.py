"""Pictures of other sizes over HTTP, of a bundle with an enlarger: equal to the SDK's, and refused as described."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sdk
from codec_contract.fit import Size
from edgegrain.service.engine import Engine, RestoreOptions
from tests.service_harness import LiveService, get, live_service, pixels, raw_payloads
from tests.tiny_bundle import write_tiny_bundle

BUNDLE = "tiny-64-lr16"


@pytest.fixture(scope="module")
def service(enlarging: Path) -> Iterator[LiveService]:
    with live_service(enlarging, max_pixels=200 * 200) as service:
        yield service


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
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "urn:edgegrain:problem:invalid-parameter")
    assert [item["parameter"] for item in problem["errors"]] == ["size"]


def test_the_limit_of_pixels_holds(service: LiveService, enlarging: Path) -> None:
    answer = service.restore(raw_payloads(enlarging, 1)[0], params={"size": 201})
    assert answer.status_code == 422 and answer.json()["type"] == "urn:edgegrain:problem:invalid-picture"
    assert "201 x 201 pixels, more than 40000; ask for a smaller size" in answer.json()["detail"]


def test_sides_are_listed(service: LiveService) -> None:
    (listed,) = get(f"{service.url}/v1/bundles").json()
    assert listed["sides"] == [64, 128, 256]


async def test_jobs_of_one_factor_share_batches(service: LiveService, enlarging: Path) -> None:
    (payload,) = raw_payloads(enlarging, 1, size=(100, 10))
    sizes: list[Size] = ["native", 64, 65, 128, 129, "original"]
    jobs = [service.state.restore_job(payload, RestoreOptions(size)) for size in sizes]
    assert [job.key.enlargement for job in jobs] == [1, 1, 2, 2, 4, 2]


def test_a_batch_of_several_sizes(enlarging: Path) -> None:
    engine = Engine([enlarging], threads=1, batch_sizes=(1, 4))
    payloads = raw_payloads(enlarging, 4, size=(100, 100))
    options = [RestoreOptions("native"), RestoreOptions(256), RestoreOptions(), RestoreOptions(257)]
    *outcomes, refused = engine.restore(BUNDLE, payloads, options)
    codec = sdk.Codec(enlarging, threads=1)
    for outcome, payload, wanted in zip(outcomes, payloads, options, strict=False):
        assert isinstance(outcome, bytes)
        np.testing.assert_array_equal(pixels(outcome), codec.restore(payload, size=wanted.size))
    assert isinstance(refused, sdk.ImageError) and "not at 257" in str(refused)


def test_both_factors_are_warmed_up(enlarging: Path) -> None:
    taken = Engine([enlarging], threads=1).warm_up()
    assert [(verb, enlargement) for verb, _, enlargement, _ in taken] == [
        ("compress", 1), ("restore", 1), ("restore", 2), ("restore", 4)]
    assert 0 < taken[1][3] < min(taken[2][3], taken[3][3]) < 60


def test_an_idle_worker_frees_the_enlarger_until_it_is_needed(enlarging: Path) -> None:
    engine = Engine([enlarging], threads=1)
    enlarger = weakref.ref(engine._codecs[BUNDLE]._open.enlarger)
    payloads, options = raw_payloads(enlarging, 1), [RestoreOptions(256)]
    before = engine.restore(BUNDLE, payloads, options)
    engine.release_memory()
    assert enlarger() is None and engine.restore(BUNDLE, payloads, options) == before


def test_a_damaged_enlarger_is_found_at_the_start(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, doublings=1)
    (folder / "enlarger_x2.onnx").write_bytes(b"altered")
    with pytest.raises(sdk.BundleError, match=r"enlarger_x2\.onnx"):
        Engine([folder])
