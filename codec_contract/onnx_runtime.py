"""Output of native libraries past ``sys.stderr``, and the models and cores that ONNX Runtime may use."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from codec_contract.errors import DeviceError

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_REDIRECTING = threading.RLock()  # the descriptor belongs to the whole process


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Redirect file descriptor 2 to a temporary file; yields a function that returns the output so far, for messages.
    """
    if sys.stderr is None:  # descriptor 2 was closed at the start (`2>&-`) and may be another file's by now
        yield lambda: ""
        return
    with _REDIRECTING, tempfile.TemporaryFile() as log:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(log.fileno(), 2)

        def said() -> str:
            sys.stderr.flush()
            log.seek(0)  # descriptor 2 shares the position: reading to the end moves it to where output goes on
            return log.read().decode(errors="replace")

        try:
            yield said
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def refuse_external_weights(options: Any) -> None:
    """Make sessions with these ``onnxruntime.SessionOptions`` fail for models of another format than ONNX, and for
    those whose weights lie in other files.

    ONNX Runtime resolves a file name in a tensor of a model from memory in the current directory, so that a model from
    elsewhere could put the bytes of a user's file into LRs or pictures.
    """
    # The folder in which the names are resolved, since ONNX Runtime 1.21; nothing lies below this one.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.add_session_config_entry("session.load_model_format", "ONNX")  # which `refuse_control_flow` reads


# Fields of ONNX's protocol buffers: of a model, its functions, a graph, a node, an attribute.
_GRAPH, _FUNCTIONS, _GRAPH_NODES, _FUNCTION_NODES, _ATTRIBUTES = 7, 25, 1, 7, 5
_OP_TYPE, _SUBGRAPH, _SUBGRAPHS = 4, 6, 11


def refuse_control_flow(model: bytes) -> None:
    """Raise `ValueError` for a model with a node that contains a graph, as Loop, Scan and If do.

    A Loop could run forever; networks of bundles have none. Reads the file without the package onnx.
    """
    for number, body in _fields(memoryview(model), _GRAPH, _FUNCTIONS):
        for _, node in _fields(body, _GRAPH_NODES if number == _GRAPH else _FUNCTION_NODES):
            for _, attribute in _fields(node, _ATTRIBUTES):
                if next(_fields(attribute, _SUBGRAPH, _SUBGRAPHS), None) is not None:
                    op = b"".join(bytes(name) for _, name in _fields(node, _OP_TYPE))[:80].decode(errors="replace")
                    raise ValueError(f"it has control flow ({op}), which could run forever")


def _fields(message: memoryview, *wanted: int) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the wanted fields of a message in the encoding of protocol buffers."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = 0
        for shift in range(0, 70, 7):
            if position >= len(message):
                break
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("it is damaged: a number has no end")

    while position < len(message):
        tag, start = varint() & 0xFFFFFFFF, position  # as readers do that keep 32 bits of a number
        match tag & 7:
            case 0:
                varint()
            case 1:
                position += 8
            case 5:
                position += 4
            case 2:
                length = varint()
                start, position = position, position + length
            case kind:
                raise ValueError(f"it is damaged: a field has the type {kind}")
        if position > len(message):
            raise ValueError("it is damaged: a field has no end")
        if tag >> 3 in wanted:
            yield tag >> 3, message[start:position]


def set_threads(options: Any, threads: int | None) -> None:
    """Set the threads of a session's ``onnxruntime.SessionOptions``; None for all cores that this process may use.

    ONNX Runtime itself counts the cores of the machine, so in a container with a quota its threads stop each other.
    """
    if threads is not None and threads < 1:
        raise DeviceError(f"threads must be at least 1, got {threads}")
    if threads is None and (cores := available_cores()) < (os.cpu_count() or 1):
        threads = cores
    if threads is not None:
        options.intra_op_num_threads = threads


def available_cores() -> int:
    """The number of cores that this process may use, by its affinity and the quotas of its cgroups, at least 1."""
    limits = [float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)]
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS  # version 1 or 2
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents[: len(folder.parts) - len(root.parts)], root):
            with contextlib.suppress(OSError, ValueError):  # of another version; "max" is no number
                limits.append(_quota(group))
    return max(1, int(min(limits)))


def _quota(group: Path) -> float:
    """The cores of a cgroup's quota."""
    if (file := group / "cpu.max").exists():
        quota, period = map(int, file.read_text().split())
    else:
        quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota / period if quota > 0 else float("inf")
