"""The application against its own OpenAPI document, and against bodies of all kinds: never a 500 for bad input."""

import warnings

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service_harness import SOON, LiveService

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of schemathesis' own imports
    import schemathesis
    from schemathesis.specs.openapi import checks

UNMISTAKABLE = {"/health/live", "/health/ready"}
"""Routes that take nothing which could be wrong."""
ROUTES = {"/v1/restore", "/v1/restore/batch", "/v1/compress", "/v1/bundles", "/v1/bundles/{bundle}/{name}", "/metrics"}
ROUTES |= UNMISTAKABLE
CHECKS = [schemathesis.checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
CHECKS += [checks.response_schema_conformance, checks.response_headers_conformance]


@pytest.fixture(scope="module")
def schema(tiny_service: LiveService) -> schemathesis.schemas.BaseSchema:
    for media_type in ("application/vnd.edgegrain", "image/*"):
        schemathesis.serializer.alias(media_type, "application/octet-stream")
    return schemathesis.openapi.from_url(f"{tiny_service.url}/openapi.json")


def test_every_route_is_described(schema: schemathesis.schemas.BaseSchema) -> None:
    assert {result.ok().path for result in schema.get_all_operations()} == ROUTES


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
@pytest.mark.parametrize("path", sorted(ROUTES))
def test_answers_are_as_described(
    schema: schemathesis.schemas.BaseSchema, path: str, mode: schemathesis.GenerationMode
) -> None:
    if path in UNMISTAKABLE and mode is schemathesis.GenerationMode.NEGATIVE:
        return
    (operation,) = (result.ok() for result in schema.get_all_operations() if result.ok().path == path)

    @settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=SOON)

    check()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=2000), path=st.sampled_from(["/v1/restore", "/v1/compress"]))
def test_any_body(client: httpx.Client, body: bytes, path: str) -> None:
    kind = {"Content-Type": "application/octet-stream"}
    assert client.post(path, content=body, headers=kind).status_code in (400, 422)


PIECES = [b"--x", b"--", b"\r\n", b"\r\n\r\n", b"\0", b"a:", b"Content-Type: text/plain; charset=nonsense"]
PIECES.append(b'Content-Disposition: form-data; name="payload"; filename="a"')


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_any_form(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/restore/batch", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code in (200, 400, 404, 413, 415, 422), answer.text
    assert answer.status_code == 200 or answer.json()["status"] == answer.status_code
