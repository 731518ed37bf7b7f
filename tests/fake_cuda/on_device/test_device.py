"""The fake device itself: it refuses what CUDA refuses, works late, and replays what was captured."""

import ctypes
from collections.abc import Iterator
from ctypes import c_void_p

import pytest

from tests.fake_cuda.on_device.conftest import Device

TO_DEVICE, TO_HOST, NON_BLOCKING = 1, 2, 1
UNSUPPORTED, INVALIDATED = 900, 901
EIGHT = ctypes.c_size_t(8)


@pytest.fixture
def cuda(device: Device) -> Iterator[ctypes.CDLL]:
    yield device.runtime
    device.reset()  # these tests provoke violations
    device.runtime.cudaGetLastError()


@pytest.fixture
def stream(cuda: ctypes.CDLL) -> Iterator[c_void_p]:
    handle = c_void_p()
    assert cuda.cudaStreamCreateWithFlags(ctypes.byref(handle), NON_BLOCKING) == 0
    yield handle
    cuda.cudaStreamDestroy(handle)


@pytest.fixture
def memory(cuda: ctypes.CDLL) -> c_void_p:
    """Eight bytes on the device."""
    pointer = c_void_p()
    assert cuda.cudaMalloc(ctypes.byref(pointer), EIGHT) == 0
    return pointer


def test_a_replay_reads_host_memory_again(
    cuda: ctypes.CDLL, device: Device, stream: c_void_p, memory: c_void_p
) -> None:
    pinned, target = c_void_p(), ctypes.create_string_buffer(8)
    assert cuda.cudaHostAlloc(ctypes.byref(pinned), EIGHT, 0) == 0
    source = (ctypes.c_char * 8).from_address(pinned.value or 0)
    source[:] = b"12345678"
    graph, executable = c_void_p(), c_void_p()
    assert cuda.cudaStreamBeginCapture(stream, 0) == 0
    assert cuda.cudaMemcpyAsync(memory, source, EIGHT, TO_DEVICE, stream) == 0
    assert cuda.cudaStreamEndCapture(stream, ctypes.byref(graph)) == 0
    assert cuda.cudaGraphInstantiate(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)) == 0

    def content() -> bytes:
        assert cuda.cudaStreamSynchronize(stream) == 0
        assert cuda.cudaMemcpy(target, memory, EIGHT, TO_HOST) == 0
        return target.raw

    assert content() == b"\xff" * 8  # captured work does not run, and new memory is NaN
    assert cuda.cudaGraphLaunch(executable, stream) == 0
    assert content() == b"12345678" and device.report()["host_copies_changed"] == 0
    source[:] = b"abcdefgh"
    assert cuda.cudaGraphLaunch(executable, stream) == 0
    source[:] = b"ABCDEFGH"  # work starts when something waits
    assert content() == b"ABCDEFGH"
    report = device.report()
    assert (report["host_copies_in_graphs"], report["replays"]) == (1, 2) and report["host_copies_changed"]


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy"])
def test_capture_refuses(cuda: ctypes.CDLL, device: Device, stream: c_void_p, memory: c_void_p, call: str) -> None:
    graph, pointer = c_void_p(), c_void_p()
    arguments = {
        "cudaMalloc": (ctypes.byref(pointer), EIGHT),
        "cudaStreamSynchronize": (stream,),
        "cudaDeviceSynchronize": (),
        "cudaMemcpy": (memory, ctypes.create_string_buffer(8), EIGHT, TO_DEVICE),
    }[call]
    assert cuda.cudaStreamBeginCapture(stream, 0) == 0
    assert getattr(cuda, call)(*arguments) == UNSUPPORTED
    assert cuda.cudaStreamEndCapture(stream, ctypes.byref(graph)) == INVALIDATED
    assert graph.value is None
    assert len(device.report()["violations"]) == 2
