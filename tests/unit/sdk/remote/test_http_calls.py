"""LRs sent to services, and answers of services that are no services."""

from __future__ import annotations

import json

import numpy as np
import pytest

from codec_contract.errors import ServiceError
from codec_contract.payload import parse_payload
from sdk.remote.http_calls import payload_of_lr, read_bundles, read_payload


@pytest.mark.parametrize(("described", "levels"), [({}, [12, 11, 255]), ({"step": 7}, [14, 14, 252])])
def test_an_lr_is_rounded_to_the_step_that_the_service_names(described: dict[str, int], levels: list[int]) -> None:
    fields = {"id": "x", "version": "1", "codec": "grain", "domain": "faces", "hr": 64, "lr": 1}
    bundles = read_bundles(json.dumps([{**fields, "lr_contract_id": "5" * 64, **described}]).encode())
    payload = parse_payload(payload_of_lr(np.array([[[12, 11, 255]]], np.uint8), bundles, None))
    assert list(payload.body) == levels


def test_an_answer_that_is_no_payload_is_the_services_fault() -> None:
    with pytest.raises(ServiceError, match="is not a payload.*is this an edgegrain service"):
        read_payload(b"<!doctype html>")
