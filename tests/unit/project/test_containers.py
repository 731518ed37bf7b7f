"""Container files, compose, Prometheus, Grafana and Kubernetes: the names, ports and times in them are the service's.

No image is built here; containers/build_without_registry.sh and check_image.sh do that.
"""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from codec_contract.bundle.find import DEFAULT_BUNDLE
from edgegrain.service import routes
from edgegrain.service.observability import ServiceMetrics
from edgegrain.service.problems import KINDS
from edgegrain.service.settings import ENVIRONMENT_PREFIX, Settings

PROBES = {route.path for route in routes.health_router.routes}  # type: ignore[attr-defined]
INSTRUCTIONS = set("ARG FROM WORKDIR COPY RUN USER ENV EXPOSE STOPSIGNAL HEALTHCHECK ENTRYPOINT".split())
LABELS = {"instance", "job", "le", "route", "method", "status", "verb", "reason", "stage", "kind"}


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "containers"


@pytest.fixture(scope="module")
def contrib(repository: Path) -> Path:
    return repository / "contrib"


def series() -> set[str]:
    """Names of all series of ``/metrics``."""
    types = re.findall(r"^# TYPE (\w+) (\w+)$", generate_latest(ServiceMetrics().registry).decode(), re.MULTILINE)
    ends = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + end for name, kind in types for end in ends.get(kind, ("",))}


def unknown(expression: str) -> set[str]:
    """Names in a PromQL expression that are series of neither the service nor Prometheus."""
    plain = re.sub(r'"[^"]*"|\[[^]]*\]', " ", expression)
    words = set(re.findall(r"[a-z_]\w*", plain))
    return words - series() - LABELS - {"up", "sum", "by", "rate", "increase", "histogram_quantile"}


def settings_of(environment: dict[str, str]) -> Settings:
    """The settings from environment variables; unknown variables are refused."""
    own = {name: value for name, value in environment.items() if name.startswith(ENVIRONMENT_PREFIX)}
    return Settings(**{name.removeprefix(ENVIRONMENT_PREFIX).lower(): value for name, value in own.items()})


def instructions(text: str) -> Iterator[tuple[str, str]]:
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip() and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest.strip()


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_dockerfiles(folder: Path, kind: str) -> None:
    values: dict[str, list[str]] = {}
    for word, rest in instructions((folder / f"Dockerfile.{kind}").read_text()):
        assert word in INSTRUCTIONS
        values.setdefault(word, []).append(rest)
    assert values["ENTRYPOINT"] == ['["edgegrain", "serve"]'] and values["USER"] == ["10001"]
    variables = dict(pair.split("=", 1) for line in values["ENV"] for pair in line.split())
    settings = settings_of(variables)
    assert (settings.host, settings.device) == ("0.0.0.0", kind)
    assert variables["ORT_DISABLE_TELEMETRY"] == "1"  # ONNX Runtime sends events to its vendor otherwise
    assert values["EXPOSE"] == [str(settings.port)] and values["STOPSIGNAL"] == ["SIGTERM"]
    assert f"environ.get('EDGEGRAIN_SERVE_PORT', '{settings.port}') + '/health/ready'" in values["HEALTHCHECK"][0]


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_base_images_are_arguments(folder: Path, kind: str) -> None:
    text, script = ((folder / name).read_text() for name in (f"Dockerfile.{kind}", "build_without_registry.sh"))
    arguments = {rest.split("=")[0] for word, rest in instructions(text.partition("\nFROM")[0]) if word == "ARG"}
    stages: set[str] = set()
    for word, rest in instructions(text):
        if word == "FROM":
            image, *name = rest.split(" AS ")
            assert image in stages or image.removeprefix("${").removesuffix("}") in arguments
            stages.update(name)
    for argument in arguments:
        assert f"--build-arg {argument}={'fused' if argument == 'DECODER' else 'localhost/'}" in script
    assert "# syntax" not in text  # the engine would fetch that frontend from a registry
    assert "--layers --no-cache" in script  # buildah's cache misses changes of a stage that a RUN mounts


def test_the_build_script_explains_itself(folder: Path) -> None:
    script = folder / "build_without_registry.sh"
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert "--ca FILE" in shown.stdout and "debootstrap" in shown.stdout
    refused = subprocess.run([script, "gpu"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "cpu|cuda" in refused.stderr
    for name in ("build_without_registry.sh", "check_image.sh"):
        subprocess.run(["sh", "-n", folder / name], check=True)


def test_the_cuda_image_is_built_with_fused_ops(folder: Path, repository: Path) -> None:
    text = (folder / "Dockerfile.cuda").read_text()
    (export,) = (rest for word, rest in instructions(text) if word == "RUN" and "edgegrain export decoder" in rest)
    assert f"--into bundles/{DEFAULT_BUNDLE}" in export and "--ops fused" in export
    cmake = (repository / "server_decoder" / "cuda_ops" / "CMakeLists.txt").read_text()
    for variable in ("EDGEGRAIN_CUDA", "EDGEGRAIN_CUDA_ARCHITECTURES"):
        assert f"cmake.define.{variable}=" in text and f"set({variable} " in cmake
    (architectures,) = re.findall(r'set\(architectures "([^"]*)"', cmake)
    (more,) = re.findall(r"list\(APPEND architectures ([^)]*)\)", cmake)  # with nvcc 12.8, which the image has
    assert f'ARG CUDA_ARCHITECTURES="{";".join([architectures, *more.split()])}"' in text
    assert "ENV CUDA_CACHE_PATH=/tmp/" in text  # all that a user without home can write in a read-only container


def test_the_build_context_holds_what_the_wheel_needs(repository: Path) -> None:
    kept = {line[1:] for line in (repository / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    text = tomllib.loads((repository / "pyproject.toml").read_text())
    packages, project = text["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], text["project"]
    needed = {*packages, project["readme"], *project["license-files"], "bundles", "requirements"}
    assert needed | {"hatch_build.py", "pyproject.toml"} <= kept
    assert all((repository / name).exists() for name in kept)


def test_compose(folder: Path, contrib: Path) -> None:
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    service = compose["services"]["service"]
    settings = settings_of(service["environment"])
    assert float(service["stop_grace_period"].removesuffix("s")) > settings.drain_delay + settings.drain_timeout
    cuda, grafana = (yaml.safe_load((contrib / f"compose.{name}.yaml").read_text()) for name in ("cuda", "grafana"))
    for file in (compose, cuda):
        assert (folder.parent / file["services"]["service"]["build"]["dockerfile"]).is_file()
    for file in (compose, grafana):
        for item in file["services"].values():
            assert all(port.startswith("127.0.0.1:") for port in item["ports"])
            for volume in item.get("volumes", []):
                source = volume.split(":")[0]
                assert source in file["volumes"] or (folder / source).is_dir()
    (job,) = yaml.safe_load((folder / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"service:{settings.port}"]
    home = Path(grafana["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    provider = yaml.safe_load((contrib / "grafana/provisioning/dashboards/edgegrain.yaml").read_text())["providers"][0]
    assert str(home.parent) == provider["options"]["path"] and (contrib / "grafana/dashboards" / home.name).is_file()


def test_the_dashboard_asks_for_metrics_that_exist(contrib: Path) -> None:
    dashboard = json.loads((contrib / "grafana" / "dashboards" / "service.json").read_text())
    provisioned = yaml.safe_load((contrib / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    source = provisioned["datasources"][0]
    shown: set[str] = set()
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == source["uid"] and panel["targets"]
        for target in panel["targets"]:
            assert not unknown(target["expr"]), target["expr"]
            shown |= set(re.findall(r"edgegrain_\w+", target["expr"]))
    own = {name for name in series() if name.startswith("edgegrain_") and not name.endswith("_created")}
    families, drawn = ({re.sub("_(bucket|sum|count)$", "", name) for name in names} for names in (own, shown))
    assert drawn == families


def test_alerts(folder: Path) -> None:
    (group,) = yaml.safe_load((folder / "prometheus" / "alerts.yaml").read_text())["groups"]
    assert len(group["rules"]) == 5
    (scraped,) = yaml.safe_load((folder / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    jobs = [job for rule in group["rules"] for job in re.findall(r'up{job="([^"]*)"} == 0', rule["expr"])]
    assert jobs == [scraped["job_name"]]  # a service that is down has no series of its own
    registry = ServiceMetrics().registry
    for rule in group["rules"]:
        assert not unknown(rule["expr"]), rule["expr"]
        for kinds in re.findall(r'kind=~?"([^"]*)"', rule["expr"]):
            assert set(kinds.split("|")) <= KINDS.keys()
            for kind in kinds.split("|"):  # increase() of a series that begins at 1 is 0
                assert registry.get_sample_value("edgegrain_errors_total", {"kind": kind}) == 0, kind


@pytest.fixture(scope="module")
def documents(contrib: Path) -> dict[str, Any]:
    """The Kubernetes objects by their kind."""
    documents = yaml.safe_load_all((contrib / "kubernetes" / "edgegrain.yaml").read_text())
    return {document["kind"]: document for document in documents}


class TestKubernetes:
    def test_probes_and_grace_fit_the_service(self, documents: dict[str, Any]) -> None:
        pod = documents["Deployment"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        settings = settings_of({item["name"]: item["value"] for item in container["env"] if "value" in item})
        assert container["ports"] == [{"name": "http", "containerPort": settings.port}]
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[name]["httpGet"]["path"] in PROBES and container[name]["httpGet"]["port"] == "http"
        ready, start = container["readinessProbe"], container["startupProbe"]
        assert ready["httpGet"]["path"] == "/health/ready"
        assert ready["periodSeconds"] * ready["failureThreshold"] < settings.drain_delay
        assert start["periodSeconds"] * start["failureThreshold"] >= settings.start_timeout
        assert pod["terminationGracePeriodSeconds"] > settings.drain_delay + settings.drain_timeout
        assert pod["enableServiceLinks"] is False
        assert str(settings.threads) == container["resources"]["limits"]["cpu"]

    def test_without_its_secret_the_service_does_not_start(self, documents: dict[str, Any]) -> None:
        (container,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
        (tokens,) = (item for item in container["env"] if "value" not in item)
        secret = {"secretKeyRef": {"name": "edgegrain", "key": "tokens"}}
        assert tokens == {"name": "EDGEGRAIN_SERVE_TOKENS", "valueFrom": secret}

    def test_names_agree(self, documents: dict[str, Any]) -> None:
        assert documents.keys() == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
        deployment = documents["Deployment"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert documents["Service"]["spec"]["selector"] == labels
        for kind in ("Deployment", "PodDisruptionBudget"):
            assert documents[kind]["spec"]["selector"]["matchLabels"] == labels
        target = documents["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
