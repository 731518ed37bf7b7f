"""Write docs/python.md, the reference of the package `sdk`, from its docstrings.

python docs/python_page.py
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script: import from the checkout

import sdk
from codec_contract.files import write_atomically

PAGE = Path(__file__).with_name("python.md")
SECTIONS = {
    "Compress and restore": ("compress", "compress_faces", "compress_scene", "restore", "Codec", "Payload", "Scene"),
    "Look at payloads and bundles": ("inspect", "PayloadInfo", "Header", "bundles", "BundleInfo", "RunningDecoder"),
    "Faces": ("find_faces", "FaceCheck", "Face", "paste", "OrientedSquare", "retouch"),
    "Services": ("connect", "connect_async", "RemoteCodec", "AsyncRemoteCodec", "RemoteBundle", "Retries"),
    "Marks of generated pictures": ("MarkedPicture", "read_mark", "GeneratedMark"),
    "Errors": (
        "EdgegrainError",
        "ImageError",
        "PayloadError",
        "BundleError",
        "DeviceError",
        "DeviceMemoryError",
        "ServiceError",
        "ModelError",
        "ExistsError",
    ),
}
"""Title -> names of `sdk.__all__`."""
INTRODUCTION = """# Python

The reference of the package `sdk`, written by `python docs/python_page.py` from its docstrings, in short form:
`help(sdk.restore)` has the details and the errors that each function raises, `help(sdk.Face)` the attributes.
"""
BUILT = {"Codec", "MarkedPicture", "OrientedSquare", "Payload", "Retries", "Scene"}
"""Classes that callers construct; functions return the others."""
AS_BEFORE = {"AsyncRemoteCodec", "Scene", "connect_async"}
"""Classes with the methods, and functions with the arguments, of the one before them, which are not repeated."""
WIDTH = 120
FIELD = re.compile(r"^(\w+): ")
PAGE_NAME = re.compile(r"docs/(\w+\.md)")


def page() -> str:
    """The page's Markdown."""
    lines = [INTRODUCTION]
    for title, names in SECTIONS.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += _entry(name, getattr(sdk, name))
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield from (f"### {name}", "")
    if name in BUILT or not inspect.isclass(thing) and name not in AS_BEFORE:
        yield from (_wrapped(f"`{_signature(f'sdk.{name}', thing)}`", "    "), "")
    summary, *sections = (inspect.getdoc(thing) or "").split("\n\n")
    yield from (_wrapped(_markdown(summary)), "")
    if name in BUILT:
        sections += (inspect.getdoc(thing.__init__) or "").split("\n\n")
    for section in sections:
        title, _, body = section.partition("\n")
        if title == "Attributes:" and (name not in BUILT or thing.__init__.__doc__):
            names = re.findall(r"^(\w+):", textwrap.dedent(body), re.MULTILINE)
            yield from (_wrapped(f"Attributes: `{'`, `'.join(names)}`"), "")
        elif title in ("Args:", "Attributes:"):
            entries = re.split(r"\n(?! )", textwrap.dedent(body))
            yield from (title.replace("Args", "Arguments"), "")
            for entry in entries:
                yield _wrapped("- " + FIELD.sub(r"`\1`: ", _markdown(_first(entry))), "  ")
            yield ""
    if inspect.isclass(thing) and not issubclass(thing, Exception) and name not in AS_BEFORE:
        members = [*_members(thing)]
        yield from (*members, "") if members else ()


def _members(kind: type) -> Iterator[str]:
    bases = (base for base in kind.__mro__ if base is kind or base.__name__.startswith("_"))
    for name, member in (item for base in bases for item in vars(base).items()):
        if not name.startswith("_") and (inspect.isroutine(getattr(kind, name)) or isinstance(member, property)):
            shown, summary = f".{name}", (inspect.getdoc(member) or "").split("\n\n")[0]
            if not isinstance(member, property):
                names = [name for name in inspect.signature(getattr(kind, name)).parameters if name != "self"]
                shown += "(…)" if ", as `sdk." in summary else f"({', '.join(names)})"
            yield _wrapped(f"- `{shown}`: {_markdown(_first(summary))}", "  ")


def _signature(name: str, thing: Any) -> str:
    """Without annotations, which the text explains in words."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(thing).parameters.values()
        if parameter.name != "self"
    ]
    return f"{name}{inspect.Signature(parameters)}"


def _first(text: str) -> str:
    """The first sentence."""
    return re.split(r"(?<=[.)])\s+(?=[A-Z`(])", " ".join(text.split()))[0]


def _markdown(text: str) -> str:
    return PAGE_NAME.sub(r"[\1](\1)", text.replace("``", "`"))


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        re.sub(r"\s+", " ", text), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    write_atomically(PAGE, page().encode(), force=True)
