"""Output of native code is captured; models without control flow; cores of containers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from codec_contract import onnx_runtime
from codec_contract.onnx_runtime import available_cores, captured_stderr, refuse_control_flow, set_threads


def test_captured(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as said:
        os.write(2, b"native\n")
        assert said() == "native\n"
        os.write(2, b"more\n")
        assert said() == "native\nmore\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_threads_do_not_lose_the_descriptor(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        for _ in range(20):
            with pytest.raises(ValueError), captured_stderr():
                os.write(2, b"INFO\n")
                raise ValueError

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work) for _ in range(4)]:
            done.result()
    os.write(2, b"here\n")
    assert capfd.readouterr().err == "here\n"


def test_without_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with captured_stderr() as said:
        assert said() == ""


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
    long_tag = bytes([0x80 | 7 << 3 | 2, 0x80, 0x80, 0x80, 0x10])  # of a graph, with a bit beyond 32
    graph = onnx.load_model_from_string(model(looping())).graph.SerializeToString()
    disguised = model(plain) + long_tag + bytes([len(graph) & 127 | 128, len(graph) >> 7]) + graph
    for refused in (model(plain, looping()), hidden, twice, disguised):
        with pytest.raises(ValueError, match=r"control flow \(Loop\), which could run forever"):
            refuse_control_flow(refused)
    for damaged in (model(plain)[:-3], b"\x3a\xff", b"\x0b\x0c" + model(looping())):
        with pytest.raises(ValueError, match="it is damaged"):
            refuse_control_flow(damaged)


@pytest.mark.parametrize(("own", "files", "cores"), [
    ("0::/pod/app\n", {"pod/app/cpu.max": "max 100000", "pod/cpu.max": "250000 100000"}, 2),
    ("0::/\n", {"cpu.max": "50000 100000"}, 1), ("0::/outside\n", {"cpu.max": "300000 100000"}, 3),
    ("3:cpu,cpuacct:/app\n2:memory:/x\n", {"cpu/app/cpu.cfs_quota_us": "200000", "cpu/app/cpu.cfs_period_us": "100000",
                                            "cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ("0::/\n", {"cpu.max": "nonsense"}, 64), ("", {}, 64)])
def test_quotas_of_containers(
    own: str, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(onnx_runtime, "CGROUPS", tmp_path)
    monkeypatch.setattr(onnx_runtime, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(onnx_runtime, "available_cores", available_cores)  # other tests run on one core
    assert available_cores() == cores
    options = SimpleNamespace(intra_op_num_threads=0)
    set_threads(options, None)
    assert options.intra_op_num_threads == (0 if cores == 64 else cores)  # 0: all
    set_threads(options, 7)
    assert options.intra_op_num_threads == 7
