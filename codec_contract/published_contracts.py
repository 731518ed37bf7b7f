"""LR contracts of published bundles, to locate the bundle for a payload that no installed bundle restores.

Every release opens the bundles of all earlier releases, so an old payload needs only the folder of its bundle.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedContract:
    """The bundles that have an LR contract, and the folder of the last of them.

    Attributes:
        bundles: id and versions of the bundles.
        commit: commit of this repository that holds the folder; "" for the current one.
        root: ``bundles``, or ``zoo``, from whose folders ``edgegrain export bundle`` makes bundles.
    """

    bundles: str
    commit: str
    root: str = "bundles"


PUBLISHED = {
    "46d713cc": PublishedContract("faces-256-lr16-small 1.0.0 to 1.2.0", ""),
    "f147382c": PublishedContract("faces-256-lr16 1.0.0", "53964dc"),
    "d26bc64f": PublishedContract("faces-256-lr16 0.5.0", "4036043"),
    "cd03eaa6": PublishedContract("faces-256-lr16 0.4.0", "ee1dee6"),
    "f069f802": PublishedContract("faces-256-lr16 0.2.0 and 0.3.0", "60813f7"),
    "9db1e8f7": PublishedContract("faces-256-lr16 0.1.0", "64e1221"),
    "18880eaa": PublishedContract("faces-256-lr16-tiny 1.1.0 and 1.2.0", "", "zoo"),
    "def082c9": PublishedContract("faces-256-lr16-tiny 1.0.0", "6cbf01e", "zoo"),
    "0b15e546": PublishedContract("faces-256-lr32 4.0.0 and 4.1.0", "", "zoo"),
    "514bd8bf": PublishedContract("faces-256-lr32 3.0.0", "f6dc508", "zoo"),
    "0e8d1301": PublishedContract("faces-256-lr32 2.0.0", "4dca037", "zoo"),
    "dc79b378": PublishedContract("faces-256-lr32 0.2.0 and 1.0.0", "31a9f11", "zoo"),
    "8ee88ae7": PublishedContract("faces-256-lr64 2.0.0 and 2.1.0", "", "zoo"),
    "7767aa9a": PublishedContract("faces-256-lr64 1.1.0", "7ba0829", "zoo"),
    "698ba927": PublishedContract("faces-256-lr64 1.0.0", "6cbf01e", "zoo"),
}
"""First eight hex digits of the contract's id -> where it is."""


def published_by(contract_id: bytes) -> str:
    """A clause for messages about a payload of this contract (32 bytes, or the first 4); "" if `PUBLISHED` lacks it."""
    found = PUBLISHED.get(contract_id[:4].hex())
    if found is None:
        return ""
    name, *_, version = found.bundles.split()
    folder = f"{found.root}/{name}"
    commit = f"'s commit {found.commit}" if found.commit else ""
    make = f"; make the bundle with: edgegrain export bundle {folder} --version {version} --out bundles/{name}"
    return f"that of {found.bundles} (folder {folder} of edgegrain{commit}{make if found.root == 'zoo' else ''})"
