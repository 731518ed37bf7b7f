"""``docs/service.md`` lists every setting with its default, every problem and every metric."""

import re
from pathlib import Path

import pytest

from codec_contract.payload import MAX_PAYLOAD_BYTES
from edgegrain.service.observability import ServiceMetrics
from edgegrain.service.problems import KINDS
from edgegrain.service.settings import Settings


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "service.md").read_text()


def entries(page: str, title: str) -> list[tuple[str, str]]:
    """Names and what stands in parentheses after them, of each entry of a section's list."""
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    items = [" ".join(item.split("\n\n")[0].split()) for item in section.split("\n- ")[1:]]
    found = [re.fullmatch(r"((?:`[^`]+`(?:, )?)+)(?: \((.*?)\))?(?:: .*)?", item) for item in items]
    return [(match[1], match[2] or "") for match in found if match]


def test_settings(page: str) -> None:
    documented = {}
    for names, default in entries(page, "Settings"):
        documented.update(dict.fromkeys(re.findall(r"`(\w+)`", names), default))
    assert documented.keys() == Settings.model_fields.keys()
    settings = Settings()
    sizes = "queue_size", "max_batch_items", "max_pixels", "max_photo_pixels", "workers", "deadline"
    times = (
        "deadline",
        "head_timeout",
        "body_timeout",
        "worker_timeout",
        "start_timeout",
        "drain_delay",
        "drain_timeout",
    )
    for name in (*sizes, *times):
        assert float(documented[name].removesuffix(" s").replace(",", "")) == getattr(settings, name)
    assert documented["batch_sizes"] == ",".join(map(str, settings.batch_sizes))
    assert (settings.max_picture_bytes, settings.max_bytes_in_flight) == (32 << 20, 256 << 20)
    assert f"{MAX_PAYLOAD_BYTES:,} bytes" in page


def test_idle_connections_are_kept_longer_than_by_load_balancers(repository: Path) -> None:
    nginx = (repository / "containers" / "nginx.conf").read_text()
    (kept,) = re.findall(r"\bkeepalive_timeout (\d+)s;", nginx)
    assert 60 <= int(kept) < Settings().head_timeout - 5


def test_problems(page: str) -> None:
    documented = dict[str, int]()
    for kinds, status in entries(page, "Problems"):
        documented |= dict.fromkeys(re.findall(r"`([\w-]+)`", kinds), int(status))
    assert documented == {name: status for name, (status, _) in KINDS.items()}


def test_metrics(page: str) -> None:
    documented = {name for names, _ in entries(page, "Metrics") for name in re.findall(r"`(edgegrain_\w+)`", names)}
    metrics = ServiceMetrics()
    families = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    assert documented == {name for name in families if name.startswith("edgegrain_")}
