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
    "Errors": ("EdgegrainError", "ImageError", "PayloadError", "BundleError", "DeviceError", "DeviceMemoryError",
               "ServiceError", "ModelError", "ExistsError")}
"""Title -> names of `sdk.__all__`."""
INTRODUCTION = """# Python

The reference of the package `sdk`, written by `python docs/python_page.py` from its docstrings;
[integration.md](integration.md) goes through the same step by step.
"""
BUILT = {"Codec", "MarkedPicture", "OrientedSquare", "Payload", "Retries", "Scene"}
"""Classes that callers construct; functions return the others."""
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
    if name in BUILT or not inspect.isclass(thing):
        yield from ("```text", _wrapped(_signature(f"sdk.{name}", thing), "    "), "```", "")
    yield from _text(inspect.getdoc(thing) or "")
    if name in BUILT:
        for part in (inspect.getdoc(thing.__init__) or "").split("\n\n"):
            if part.startswith(("Args:\n", "Raises:\n")):
                yield from _text(part)
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        yield from _members(thing)


def _members(kind: type) -> Iterator[str]:
    members = [(name, member) for name, member in vars(kind).items() if not name.startswith("_")
               and (inspect.isfunction(member) or isinstance(member, property))]
    if members:
        yield from ("**Methods and properties**", "")
        for name, member in members:
            shown = f".{name}" if isinstance(member, property) else _signature(f".{name}", member)
            summary = (inspect.getdoc(member) or "").split("\n\n")[0]
            yield _wrapped(f"- `{shown}`: {_markdown(summary)}", "  ")
        yield ""


def _signature(name: str, thing: Any) -> str:
    """Without annotations, which the text explains in words."""
    parameters = [parameter.replace(annotation=inspect.Parameter.empty)
                  for parameter in inspect.signature(thing).parameters.values() if parameter.name != "self"]
    return f"{name}{inspect.Signature(parameters)}"


def _text(docstring: str) -> Iterator[str]:
    """A docstring as Markdown: its sections' entries become lists, its examples code."""
    for paragraph in docstring.split("\n\n"):
        title, _, rest = paragraph.partition("\n")
        if not rest.startswith("    "):
            yield from (_wrapped(_markdown(paragraph)), "")
            continue
        title, body = title.removesuffix(":").replace("Args", "Arguments"), textwrap.dedent(rest)
        if title == "Example":
            yield from ("<!-- not run: needs your pictures -->", "```python", "import sdk", "", body, "```", "")
        elif title == "Returns":
            yield from (_wrapped(f"**{title}**: {_markdown(body)}"), "")
        else:
            entries = [FIELD.sub(r"`\1`: ", _markdown(entry)) for entry in re.split(r"\n(?! )", body)]
            yield from (f"**{title}**", "", *(_wrapped(f"- {entry}", "  ") for entry in entries), "")


def _markdown(text: str) -> str:
    return PAGE_NAME.sub(r"[\1](\1)", text.replace("``", "`"))


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(re.sub(r"\s+", " ", text), WIDTH, subsequent_indent=indent, break_long_words=False,
                         break_on_hyphens=False)


if __name__ == "__main__":
    write_atomically(PAGE, page().encode(), force=True)
