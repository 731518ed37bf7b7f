"""The service on Ray without Ray: options, settings of a replica, metrics of several, missing packages."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from codec_contract.errors import ServiceError
from edgegrain.service.prometheus import ServiceMetrics
from edgegrain.service.ray import cluster, ray_server
from edgegrain.service.ray.cluster import ray_cluster, session_folder
from edgegrain.service.ray.ray_server import adapt, serve_on_ray
from edgegrain.service.ray.ray_settings import RayOptions, parse_replicas
from edgegrain.service.ray.replica_metrics import merge_expositions
from edgegrain.service.settings import Settings


def test_replicas() -> None:
    assert (parse_replicas("2"), parse_replicas("1:8"), parse_replicas("0:3")) == ((2, 2), (1, 8), (0, 3))
    for text in ("", "two", "1:", ":2", "1:2:3", "-1", "1.5"):
        with pytest.raises(ServiceError, match="MIN:MAX"):
            parse_replicas(text)


@pytest.mark.parametrize("changes", [
    {"min_replicas": 3, "max_replicas": 2}, {"min_replicas": 0, "max_replicas": 0}, {"cpus": 0.0}, {"gpus": -1.0}])
def test_options_that_cannot_be(changes: dict[str, float]) -> None:
    with pytest.raises(ServiceError):
        RayOptions(**changes)  # type: ignore[arg-type]


def test_a_replica_uses_the_cores_it_reserves(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    settings = Settings(bundles=(str(tmp_path),))
    assert adapt(settings, RayOptions(cpus=4)).threads == 4
    assert adapt(settings.model_copy(update={"workers": 2}), RayOptions(cpus=5)).threads == 2
    assert adapt(settings, RayOptions(cpus=0.5)).threads == 1
    assert adapt(settings.model_copy(update={"threads": 3}), RayOptions(cpus=8)).threads == 3


def test_folders_are_absolute_here_and_names_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    settings = Settings(bundles=("mine",))
    assert adapt(settings, RayOptions()).bundles == (str(tmp_path / "mine"),)
    assert adapt(settings, RayOptions(address="auto")).bundles == ("mine",)


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0.25), ("cuda", 0.0)])
def test_device_and_gpus_belong_together(device: str, gpus: float) -> None:
    with pytest.raises(ServiceError, match="--ray-gpus"):
        adapt(Settings(device=device), RayOptions(gpus=gpus))


def test_metrics_of_two_replicas_keep_apart() -> None:
    expositions = {}
    for name, pictures in (("one", 3), ("two", 5)):
        metrics = ServiceMetrics()
        metrics.requests.labels("/v1/restore", "POST", "200").inc(pictures)
        metrics.batch_size.labels("restore").observe(pictures)
        expositions[name] = generate_latest(metrics.registry).decode()
    text = merge_expositions(expositions).decode()
    assert text.count("# TYPE edgegrain_requests_total counter") == 1
    found = {(sample.name, sample.labels["replica"]): sample.value
             for family in text_string_to_metric_families(text) for sample in family.samples}
    assert (found["edgegrain_requests_total", "one"], found["edgegrain_requests_total", "two"]) == (3, 5)
    assert (found["edgegrain_batch_size_sum", "one"], found["edgegrain_batch_size_count", "two"]) == (3, 1)


class Replicas:
    """A deployment's handle whose replicas answer a broadcast with this, or hang."""

    def __init__(self, *answers: tuple[str, str] | Exception, hang: bool = False) -> None:
        self._answers, self._hang = answers, hang

    def broadcast(self, method: str) -> Replicas:
        assert method == "exposition"
        return self

    async def results_async(self, *, timeout_s: float, return_exceptions: bool) -> list[tuple[str, str] | Exception]:
        if self._hang:
            raise TimeoutError
        assert return_exceptions
        return list(self._answers)


def test_metrics_do_without_replicas_that_die_or_hang() -> None:
    pytest.importorskip("ray.serve", reason="needs the extra ray: pip install 'edgegrain[ray]'")
    from edgegrain.service.ray.deployment import expositions

    async def own() -> tuple[str, str]:
        return "mine", "text"

    dying = Replicas(("one", "a"), RuntimeError("the replica died"), ("two", "b"))
    assert asyncio.run(expositions(dying, own)) == {"one": "a", "two": "b"}
    assert asyncio.run(expositions(Replicas(hang=True), own)) == {"mine": "text"}


@pytest.mark.parametrize(("address", "deleted"), [(None, []), ("auto", ["edgegrain"])])
@pytest.mark.parametrize(("trouble", "raised"), [(RuntimeError("not\nwarm"), ServiceError),
                                                 (KeyboardInterrupt(), KeyboardInterrupt)])
def test_what_does_not_start_is_not_left_on_a_cluster(
    address: str | None, deleted: list[str], trouble: BaseException, raised: type[BaseException],
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = pytest.importorskip("ray.serve", reason="needs the extra ray: pip install 'edgegrain[ray]'")
    removed: list[str] = []

    def run(*arguments: object, **options: object) -> None:
        raise trouble

    monkeypatch.setattr(ray_server, "ray_cluster", lambda *arguments, **options: nullcontext())
    monkeypatch.setattr(ray_server, "configure_logs", lambda level: None)
    monkeypatch.setattr(serve, "start", lambda **options: None)
    monkeypatch.setattr(serve, "run", run)
    monkeypatch.setattr(serve, "delete", removed.append)
    with pytest.raises(raised, match="no replica got ready: not warm" if raised is ServiceError else None):
        serve_on_ray(Settings(bundles=(str(tiny_bundle),), port=0), RayOptions(address=address))
    assert removed == deleted


@pytest.mark.parametrize(("options", "cores"), [
    (RayOptions(cpus=0.5), 1), (RayOptions(cpus=0.5, max_replicas=5), 3), (RayOptions(cpus=2.0, max_replicas=2), 4)])
def test_a_cluster_has_whole_cores(
    options: RayOptions, cores: int, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(address: str | None, *, cpus: float, show_logs: bool) -> None:
        raise ServiceError(f"{cpus!r} cores")

    monkeypatch.setattr(ray_server, "ray_cluster", start)
    monkeypatch.setattr(ray_server, "configure_logs", lambda level: None)
    with pytest.raises(ServiceError, match=f"^{cores} cores$"):
        serve_on_ray(Settings(bundles=(str(tiny_bundle),), port=0), options)


def test_signals_to_stop_are_waited_for() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ray_server._stop_requests() as stop:
        for count, number in enumerate((signal.SIGTERM, signal.SIGINT), 1):
            began = time.monotonic()
            stop.wait(count, 0.02)  # in vain
            assert time.monotonic() - began >= 0.02
            threading.Timer(0.02, os.kill, (os.getpid(), number)).start()
            stop.wait(count)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_proxy_that_does_not_start_is_an_error_of_the_service(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = pytest.importorskip("ray.serve", reason="needs the extra ray: pip install 'edgegrain[ray]'")
    from ray.exceptions import RayError

    def start(**options: object) -> None:
        raise RayError("killed by\n`ray.kill`")

    monkeypatch.setattr(ray_server, "ray_cluster", lambda *arguments, **options: nullcontext())
    monkeypatch.setattr(ray_server, "configure_logs", lambda level: None)
    monkeypatch.setattr(serve, "start", start)
    with pytest.raises(ServiceError, match=r"Ray did not start its HTTP proxy: killed by `ray\.kill`"):
        serve_on_ray(Settings(bundles=(str(tiny_bundle),), port=0), RayOptions())


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    monkeypatch.setitem(sys.modules, "ray", None)
    try:
        with pytest.raises(ServiceError, match=r"pip install 'edgegrain\[ray\]'"), ray_cluster(None):
            pass
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert (os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])) == ("token", 64)
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_folders_of_killed_processes_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PREFIX", f"edgegrain-test-{os.getpid()}-")
    with session_folder() as mine:
        (mine / "logs").mkdir()
        left = mine.parent / f"{cluster.PREFIX}left"
        left.mkdir()
        with session_folder() as other:
            assert mine.is_dir() and other.is_dir() and not left.exists()
    assert not mine.exists() and not other.exists()


@pytest.mark.parametrize("moment", ["locked", "removed", "removed after opening"])
def test_a_folder_that_another_start_removes_is_replaced(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="needs locks of files")
    made: list[Path] = []
    held: list[int] = []
    create, flock = tempfile.mkdtemp, fcntl.flock

    def mkdtemp(prefix: str, dir: Path) -> str:
        folder = Path(create(prefix=prefix, dir=dir))
        made.append(folder)
        if len(made) == 1 and moment == "locked":
            held.append(os.open(folder, os.O_RDONLY))
            flock(held[0], fcntl.LOCK_EX)
        elif len(made) == 1 and moment == "removed":
            folder.rmdir()
        return str(folder)

    def lock(handle: int, operation: int) -> None:
        if len(made) == 1 and moment == "removed after opening":
            made[0].rmdir()
        flock(handle, operation)

    monkeypatch.setattr(cluster, "PREFIX", f"edgegrain-test-{os.getpid()}-")
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setattr(fcntl, "flock", lock)
    with session_folder() as folder:
        assert folder == made[1] and folder.is_dir()
        handle = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
    for handle in held:
        os.close(handle)
        made[0].rmdir()


def test_a_system_without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="needs locks of files")

    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(cluster, "PREFIX", f"edgegrain-test-{os.getpid()}-")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with session_folder() as mine, session_folder() as other:
        assert mine.is_dir() and other.is_dir()
    assert not mine.exists() and not other.exists()
