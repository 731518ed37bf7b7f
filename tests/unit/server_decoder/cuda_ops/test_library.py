"""A library that the driver or the GPU cannot run is refused when it is registered; both are stand-ins."""

import shutil
import subprocess
from pathlib import Path

import onnxruntime
import pytest

from codec_contract.errors import DeviceError
from server_decoder import providers
from server_decoder.cuda_ops.library import cuda_version, has_cuda_kernels, register_library, require_cuda_kernels
from server_decoder.providers import beyond_driver, compute_capability, driver_version

COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler for stand-ins of the libraries")


def compiled(path: Path, source: str) -> Path:
    subprocess.run([COMPILER, "-shared", "-fPIC", "-x", "c", "-o", str(path), "-"], input=source.encode(), check=True)
    return path


def built_with(folder: Path, version: int) -> Path:
    source = f"int edgegrain_cuda_version(void) {{ return {version}; }}\n"
    return compiled(folder / f"libedgegrain_ops{version}.so", source)


def driver_of(folder: Path, major: int, minor: int) -> Path:
    source = f"""int cuDriverGetVersion(int *v) {{ *v = 13000; return 0; }}
        int cuInit(unsigned flags) {{ return 0; }}
        int cuDeviceGet(int *device, int number) {{ *device = number; return number == 0 ? 0 : 101; }}
        int cuDeviceGetAttribute(int *value, int attribute, int device) {{
            *value = attribute == 75 ? {major} : attribute == 76 ? {minor} : -1; return 0; }}"""
    return compiled(folder / f"driver{major}.so", source)


@needs_compiler
def test_a_library_that_is_newer_than_the_driver_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = compiled(tmp_path / "libcuda.so.1", "int cuDriverGetVersion(int *v) { *v = 12040; return 0; }\n")
    monkeypatch.setattr(providers, "_DRIVER", str(driver))
    assert driver_version() == 12040
    newer = built_with(tmp_path, 13000)
    with pytest.raises(DeviceError, match=r"ops13000.so was built with CUDA 13.0, and the driver runs CUDA up to 12.4"):
        register_library(onnxruntime.SessionOptions(), "cuda", newer)
    with pytest.raises(DeviceError, match="ONNX Runtime refuses"):  # a stand-in: nothing is wrong with its version
        register_library(onnxruntime.SessionOptions(), "cpu", newer)
    require_cuda_kernels(built_with(tmp_path, 12090))  # runs on every driver of CUDA 12
    require_cuda_kernels(built_with(tmp_path, 11080))


@needs_compiler
def test_a_gpu_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_DRIVER", str(driver_of(tmp_path, 7, 5)))
    assert compute_capability() == (7, 5)
    assert compute_capability(1) is None
    library = built_with(tmp_path, 13000)
    with pytest.raises(DeviceError, match=r"compute capability 8\.0 or higher, GPU 0 has 7\.5"):
        register_library(onnxruntime.SessionOptions(), "cuda", library)
    require_cuda_kernels(library, 1)  # ONNX Runtime says that there is no such GPU
    monkeypatch.setattr(providers, "_DRIVER", str(driver_of(tmp_path, 9, 0)))
    require_cuda_kernels(library)


@needs_compiler
def test_a_library_without_kernels_or_of_an_earlier_release_is_refused(tmp_path: Path) -> None:
    library = built_with(tmp_path, 0)
    assert not has_cuda_kernels(library) and cuda_version(library) == 0
    with pytest.raises(DeviceError, match="built without nvcc"):
        register_library(onnxruntime.SessionOptions(), "cuda", library)
    older = compiled(tmp_path / "old.so", "int another_function(void) { return 1; }\n")
    with pytest.raises(DeviceError, match="edgegrain_cuda_version; build it with 'make ops'"):
        require_cuda_kernels(older)


def test_without_a_driver_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_DRIVER", str(tmp_path / "absent.so"))
    assert driver_version() == 0 and beyond_driver(13000) is None


@pytest.mark.parametrize("version", ["1.23.0", "1.29.1", "unknown"])
def test_an_onnx_runtime_that_crashes_on_fused_ops_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    with pytest.raises(DeviceError, match=f"fused ops need ONNX Runtime 1.30 or newer, this is {version}"):
        register_library(onnxruntime.SessionOptions())
