"""Lines that native code writes to file descriptor 2 are dropped, kept, or captured; models without control flow."""

from __future__ import annotations

import os
import sys
import threading

import onnx
import pytest
from onnx import TensorProto, helper

from codec_contract.onnx_runtime import captured_stderr, refuse_control_flow, without_lines


def test_captured(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as said:
        os.write(2, b"native\n")
        assert said() == "native\n"
        os.write(2, b"more\n")
        assert said() == "native\nmore\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_matching_lines_are_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    with without_lines("^INFO: "):
        os.write(2, b"INFO: created a delegate\nWARNING: INFO: is missing\n")
    with pytest.raises(ValueError), without_lines("^INFO: "):
        os.write(2, b"INFO: again\nERROR: out of memory\n")
        raise ValueError
    assert capfd.readouterr().err == "WARNING: INFO: is missing\nERROR: out of memory\n"


def test_threads_do_not_lose_the_descriptor(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        for _ in range(20):
            with without_lines("INFO"):
                os.write(2, b"INFO\n")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"here\n")
    assert capfd.readouterr().err == "here\n"


def test_without_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    ran: list[object] = []
    with without_lines("INFO"):
        ran.append(sys.stderr)
    with captured_stderr() as said:
        ran.append(said())
    assert ran == [None, ""]


def looping() -> onnx.NodeProto:
    """A Loop without an end: its condition is true and stays so."""
    ends = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", TensorProto.INT64),
                                                                             ("go", TensorProto.BOOL),
                                                                             ("on", TensorProto.BOOL))]
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["on"])], "body", ends[:2], ends[2:])
    return helper.make_node("Loop", ["", "go"], [], body=body)


def model(*nodes: onnx.NodeProto, functions: tuple[onnx.FunctionProto, ...] = ()) -> bytes:
    graph = helper.make_graph(nodes, "graph", [helper.make_tensor_value_info("go", TensorProto.BOOL, [])], [])
    return helper.make_model(graph, functions=functions).SerializeToString()


def test_models_that_could_run_forever_are_refused() -> None:
    plain = helper.make_node("Identity", ["go"], ["on"])
    refuse_control_flow(model(plain, helper.make_node("Cast", ["on"], ["off"], to=1)))
    function = helper.make_function("own", "Hidden", ["go"], [], [looping()], [helper.make_opsetid("", 17)])
    hidden = model(helper.make_node("Hidden", ["go"], [], domain="own"), functions=(function,))
    twice = model(plain) + model(looping())  # a reader of protocol buffers joins the two
    for refused in (model(plain, looping()), hidden, twice):
        with pytest.raises(ValueError, match=r"control flow \(Loop\), which could run forever"):
            refuse_control_flow(refused)
    for damaged in (model(plain)[:-3], b"\x3a\xff", b"\x0b\x0c" + model(looping())):
        with pytest.raises(ValueError, match="it is damaged"):
            refuse_control_flow(damaged)
