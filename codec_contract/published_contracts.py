"""LR contracts of published default bundles: which release restores a payload that no installed bundle does.

Every release opens the bundles of all earlier ones, so an old payload needs the folder of its bundle only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedContract:
    """Attributes:
        bundles: id and versions of the bundles that have it.
        commit: of this repository, whose folder ``bundles`` holds the last of them.
    """

    bundles: str
    commit: str


PUBLISHED = {
    "f147382c": PublishedContract("faces-256-lr16 1.0.0", "502b32b"),
    "d26bc64f": PublishedContract("faces-256-lr16 0.5.0", "4036043"),
    "cd03eaa6": PublishedContract("faces-256-lr16 0.4.0", "ee1dee6"),
    "f069f802": PublishedContract("faces-256-lr16 0.2.0 and 0.3.0", "60813f7"),
    "9db1e8f7": PublishedContract("faces-256-lr16 0.1.0", "64e1221"),
}
"""First eight hex digits of the contract's id -> where it is."""


def published_by(contract_id: bytes) -> str:
    """A clause for messages about a payload that names this contract id, or "" if it is none of ours."""
    found = PUBLISHED.get(contract_id[:4].hex())
    if found is None:
        return ""
    name = found.bundles.split()[0]
    return f"that of {found.bundles} (folder bundles/{name} of edgegrain's commit {found.commit})"
