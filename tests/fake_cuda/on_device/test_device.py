"""The fake device itself: it refuses what CUDA refuses, works late, and replays what was captured."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from tests.fake_cuda.on_device.conftest import Device

TO_DEVICE, TO_HOST, NON_BLOCKING = 1, 2, 1
UNSUPPORTED, INVALIDATED = 900, 901


@pytest.fixture
def cuda(device: Device) -> Iterator[ctypes.CDLL]:
    yield device.runtime
    device.reset()  # these tests provoke violations
    device.runtime.cudaGetLastError()


@pytest.fixture
def stream(cuda: ctypes.CDLL) -> Iterator[ctypes.c_void_p]:
    handle = ctypes.c_void_p()
    assert cuda.cudaStreamCreateWithFlags(ctypes.byref(handle), NON_BLOCKING) == 0
    yield handle
    cuda.cudaStreamDestroy(handle)


def memory(cuda: ctypes.CDLL, size: int) -> ctypes.c_void_p:
    pointer = ctypes.c_void_p()
    assert cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)) == 0
    return pointer


def pinned(cuda: ctypes.CDLL, content: bytes) -> ctypes.Array[ctypes.c_char]:
    pointer = ctypes.c_void_p()
    assert cuda.cudaHostAlloc(ctypes.byref(pointer), ctypes.c_size_t(len(content)), 0) == 0
    array = (ctypes.c_char * len(content)).from_address(pointer.value or 0)
    array[:] = content
    return array


def copy(cuda: ctypes.CDLL, target: object, source: object, size: int, kind: int, stream: ctypes.c_void_p) -> int:
    status: int = cuda.cudaMemcpyAsync(target, source, ctypes.c_size_t(size), kind, stream)
    return status


def test_new_memory_is_not_a_number(cuda: ctypes.CDLL) -> None:
    target = ctypes.create_string_buffer(8)
    assert cuda.cudaMemcpy(target, memory(cuda, 8), ctypes.c_size_t(8), TO_HOST) == 0
    assert target.raw == b"\xff" * 8


def test_work_starts_when_something_waits(cuda: ctypes.CDLL, stream: ctypes.c_void_p) -> None:
    source, target, on_device = pinned(cuda, b"12345678"), pinned(cuda, b"........"), memory(cuda, 8)
    assert copy(cuda, on_device, source, 8, TO_DEVICE, stream) == 0
    assert copy(cuda, target, on_device, 8, TO_HOST, stream) == 0
    source[:] = b"abcdefgh"  # too early: the copy has not begun
    assert target.raw == b"........"
    assert cuda.cudaStreamSynchronize(stream) == 0
    assert target.raw == b"abcdefgh"


def test_pageable_memory_is_read_at_once(cuda: ctypes.CDLL, stream: ctypes.c_void_p) -> None:
    source, target, on_device = ctypes.create_string_buffer(b"1234"), pinned(cuda, b"...."), memory(cuda, 4)
    assert copy(cuda, on_device, source, 4, TO_DEVICE, stream) == 0
    source[:4] = b"abcd"
    assert copy(cuda, target, on_device, 4, TO_HOST, stream) == 0
    assert cuda.cudaStreamSynchronize(stream) == 0
    assert target.raw == b"1234"


def test_a_copy_beyond_an_allocation_is_refused(cuda: ctypes.CDLL, stream: ctypes.c_void_p) -> None:
    on_device = memory(cuda, 8)
    assert copy(cuda, on_device, pinned(cuda, bytes(9)), 9, TO_DEVICE, stream) == 1
    assert copy(cuda, pinned(cuda, bytes(8)), on_device, 8, TO_DEVICE, stream) == 1


def captured_copy(cuda: ctypes.CDLL, target: object, source: object, size: int, stream: ctypes.c_void_p
                  ) -> ctypes.c_void_p:
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    assert cuda.cudaStreamBeginCapture(stream, 0) == 0
    assert copy(cuda, target, source, size, TO_DEVICE, stream) == 0
    assert cuda.cudaStreamEndCapture(stream, ctypes.byref(graph)) == 0
    assert cuda.cudaGraphInstantiate(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)) == 0
    return executable


def test_a_replay_reads_host_memory_again(cuda: ctypes.CDLL, device: Device, stream: ctypes.c_void_p) -> None:
    source, target, on_device = pinned(cuda, b"12345678"), ctypes.create_string_buffer(8), memory(cuda, 8)
    graph = captured_copy(cuda, on_device, source, 8, stream)

    def content() -> bytes:
        assert cuda.cudaStreamSynchronize(stream) == 0
        assert cuda.cudaMemcpy(target, on_device, ctypes.c_size_t(8), TO_HOST) == 0
        return target.raw

    assert content() == b"\xff" * 8  # captured work does not run
    assert cuda.cudaGraphLaunch(graph, stream) == 0
    assert content() == b"12345678"
    assert device.report()["host_copies_changed"] == 0
    source[:] = b"abcdefgh"
    assert cuda.cudaGraphLaunch(graph, stream) == 0
    assert content() == b"abcdefgh"
    report = device.report()
    assert (report["host_copies_in_graphs"], report["host_copies_changed"], report["replays"]) == (1, 1, 2)


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpy"])
def test_capture_refuses(cuda: ctypes.CDLL, device: Device, stream: ctypes.c_void_p, call: str) -> None:
    on_device, graph, pointer = memory(cuda, 8), ctypes.c_void_p(), ctypes.c_void_p()
    arguments = {"cudaMalloc": (ctypes.byref(pointer), ctypes.c_size_t(8)), "cudaStreamSynchronize": (stream,),
                 "cudaDeviceSynchronize": (),
                 "cudaMemcpy": (on_device, ctypes.create_string_buffer(8), ctypes.c_size_t(8), TO_DEVICE)}[call]
    assert cuda.cudaStreamBeginCapture(stream, 0) == 0
    assert getattr(cuda, call)(*arguments) == UNSUPPORTED
    assert cuda.cudaStreamEndCapture(stream, ctypes.byref(graph)) == INVALIDATED
    assert graph.value is None
    assert len(device.report()["violations"]) == 2
