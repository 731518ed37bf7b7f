"""Every command, option, file, name and link in README.md, docs/ and the other pages exists.

Commands are compared with the parameters of the command line in this process; nothing is run.
"""

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
import typer

from edgegrain.__main__ import app as edgegrain
from edgegrain.cli.app import application

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    {
        *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "zoo/README.md")),
        *(path for folder in ("docs", "experiments") for path in (ROOT / folder).glob("*.md")),
        *(path for path in (ROOT / "clients").rglob("README.md") if "node_modules" not in path.parts),
        ROOT / "edgegrain" / "cli" / "authoring" / "device_kit.md",
    }
)
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages that name the commands and files of this release; of the other only the links are checked."""


def for_each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.relative_to(ROOT).as_posix())


PACKAGES = ("codec_contract", "edge_encoder", "server_decoder", "sdk", "export", "edgegrain")
FOLDERS = (*PACKAGES, "benchmarks", "clients", "containers", "docs", "examples", "experiments", "requirements", "tests")
MODULE_COMMANDS = {"export.mobile"}  # called as ``python -m``; every other program is a subcommand of ``edgegrain``
ELSEWHERE = {"edgegrain/bundles"}  # paths that exist in the wheel only
SUFFIXES = "cc|cu|h|java|json|lock|md|mjs|py|sh|swift|toml|ts|yaml"
CONTROL = {"&&", "||", ";", "|", "&"}
LEFT_OUT = {"...", "…"}  # words of a command that stand for further arguments


class Command(NamedTuple):
    """A command line: page and text, program and arguments, and False in running text, which leaves some out."""

    place: str
    words: tuple[str, ...]
    whole: bool


def for_each_command(commands: list[Command]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("command", commands, ids=lambda command: command.place)


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def _fences(page: Path) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return FENCE.findall(_text(page))


def _prose(page: Path) -> str:
    """The text without fenced blocks."""
    return FENCE.sub("", _text(page))


def _spans(page: Path) -> list[str]:
    """Every piece of inline code, on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", _prose(page))]


def _split(line: str) -> Iterator[tuple[str, ...]]:
    """The simple commands of a shell line, without comments, variables in front, and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in (*lexer, ";"):
        if word in CONTROL:
            while words and (re.match(r"\w+=", words[0]) or words[0] in ("do", "then", "else")):
                del words[0]
            if words[:1] == ["torchrun"]:  # the program and its arguments follow
                words = next((words[index:] for index, part in enumerate(words) if part.endswith("/edgegrain")), words)
                words[0] = Path(words[0]).name
            if words:
                yield tuple(words)
            words = []
        else:
            words.append(word)


def _commands(page: Path) -> Iterator[Command]:
    name = page.relative_to(ROOT).as_posix()
    for language, block in [("sh", _text(page))] if page.suffix == ".sh" else _fences(page):
        if language not in ("sh", "console", "bash"):
            continue
        lines = re.sub(r"\$\([^)]*\)", "VALUE", block.replace("\\\n", " ")).splitlines()
        if language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            for words in _split(line.strip()):
                yield Command(f"{name}: {' '.join(words)}", words, whole=True)
    for span in _spans(page) if page.suffix == ".md" else ():
        if re.match(r"(edgegrain|python) [\w/-]", span):
            yield Command(f"{name}: {span}", tuple(shlex.split(span)), whole=False)


def _help_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[Command]:
    """The examples in the help of every command."""
    for line in re.sub(r" *\\\n *", " ", command.help or "").splitlines():
        if line.strip().startswith(("edgegrain ", "python ", "torchrun ")):
            for words in _split(re.split(r"\s{2,}", line.strip())[0]):  # an explanation follows after spaces
                yield Command(f"help of {' '.join(('edgegrain', *path))}: {' '.join(words)}", words, whole=True)
    for name, child in getattr(command, "commands", {}).items():
        yield from _help_commands(child, (*path, name))


CLI = typer.main.get_command(application)
SPEEDRUN = ROOT / "examples" / "speedrun.sh"
COMMANDS = [command for page in (*CURRENT, SPEEDRUN) for command in _commands(page)] + list(_help_commands(CLI))
OURS = [command for command in COMMANDS if command.words[0] == "edgegrain"]
SCRIPTS = [command for command in COMMANDS if re.match(r"python \S+\.py( |$)", " ".join(command.words))]


def problem(words: tuple[str, ...], *, whole: bool) -> str | None:
    """The first error in the arguments of ``edgegrain``, as the command line parses them; None if there is none."""
    command, path = CLI, "edgegrain"
    rest = [word for word in words if word not in LEFT_OUT]
    whole = whole and len(rest) == len(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0].isupper():  # a placeholder
            return None
        if rest[0] not in command.commands:
            return f"'{path}' has no command {rest[0]!r}"
        command, path = command.commands[rest[0]], f"{path} {rest.pop(0)}"
    if {"--help", "-h"} & set(rest):
        return None
    try:
        given, further, _ = command.make_parser(command.context_class(command)).parse_args(rest)
    except typer.BadParameter.__base__ as error:  # click's, which typer does not export
        return None if "requires an argument" in str(error) and not whole else f"'{path}': {error}"
    if whole and hasattr(command, "commands") and not command.invoke_without_command and not given:
        return f"'{path}' needs a command"
    if whole and further and not hasattr(command, "commands"):
        return f"'{path}' takes no {further[0]!r}"
    for parameter in command.params:
        value = given.get(parameter.name)
        if whole and parameter.required and not value:
            return f"'{path}' needs {parameter.opts[0]}"
        kind = parameter.type_descriptor.annotation
        choices = [name for each in (kind, *get_args(kind)) if get_origin(each) is Literal for name in get_args(each)]
        if value and choices and value not in choices and not value.isupper():
            return f"{parameter.opts[0]} of '{path}' takes {', '.join(choices)}, not {value!r}"
    return None


@for_each_command(OURS)
def test_the_command_and_its_options_exist(command: Command) -> None:
    found = problem(command.words[1:], whole=command.whole)
    assert found is None, f"{command.place}\n{found}"


def test_the_check_refuses_what_does_not_exist() -> None:
    assert len(OURS) > 60
    assert problem(("restore", "me.grain", "--out", "x.png"), whole=True) is None
    assert problem(("restore", "me.grain", "--format", "wep"), whole=True) is not None
    assert problem(("models", "one"), whole=True) == "'edgegrain models' takes no 'one'"
    assert problem(("restor", "me.grain"), whole=True) == "'edgegrain' has no command 'restor'"
    assert problem(("restore", "--ou", "x"), whole=False) == "'edgegrain restore': No such option: --ou"
    assert "needs" in (problem(("restore",), whole=True) or "") and problem(("restore",), whole=False) is None
    assert problem(("restore", "me.grain", "--out"), whole=True) is not None
    programs = [words[0] for words in _split("A=1 edgegrain serve | tee x && python a.py  # edgegrain no")]
    assert programs == ["edgegrain", "tee", "python"]
    assert list(_split("torchrun --nproc-per-node 2 -- .venv/bin/edgegrain doctor")) == [("edgegrain", "doctor")]


TRAININGS = [command for command in OURS if re.match(r"edgegrain train [a-z]", " ".join(command.words))]


@for_each_command(TRAININGS)
def test_the_recipe_and_its_fields_exist(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe, with the changes that the command makes to it, as ``--dry-run`` prints it."""
    arguments = [*command.words[1:3], "--dry-run"]
    for option, value in itertools.pairwise(command.words):
        if option in ("--set", "--batch", "--seed"):
            arguments += [option, value]
    with pytest.raises(SystemExit) as left:
        edgegrain(arguments)
    assert not left.value.code, f"{command.place}\n{capsys.readouterr().err}"


@cache
def _script_options(script: Path) -> set[str]:
    """The options of a maintainer's program, read from its source and that of the parsers in ``measurement.py``."""
    sources = [path.read_text(encoding="utf-8") for path in (script, *script.parent.glob("measurement.py"))]
    options = {option for source in sources for option in re.findall(r'"(--[a-z-]+)"', source)}
    for node in ast.walk(ast.parse(sources[0])):
        if isinstance(node, ast.FunctionDef) and node.name == "main":
            options |= {f"--{argument.arg.replace('_', '-')}" for argument in (*node.args.args, *node.args.kwonlyargs)}
    return options


@for_each_command(SCRIPTS)
def test_the_script_and_its_options_exist(command: Command) -> None:
    _, script, *arguments = command.words
    beside = ROOT / command.place.split(":")[0]
    found = [path for path in (ROOT / script, beside.parent / script) if path.is_file()]
    assert found, f"{command.place}: no file {script}"
    named = {word.split("=")[0] for word in arguments if re.match(r"--[a-z]", word)}
    unknown = sorted(named - _script_options(found[0]))
    assert not unknown, f"{command.place}: no option {', '.join(unknown)}"


@for_each(CURRENT)
def test_programs_are_subcommands(page: Path) -> None:
    for name in re.findall(r"python3? -m ([\w.]+)", _text(page)):
        ours = name.split(".")[0] in (*PACKAGES, "benchmarks", "tests")
        assert not ours or name in MODULE_COMMANDS, f"only {', '.join(MODULE_COMMANDS)} is called as a module"


@for_each(CURRENT)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = [*(block for language, block in _fences(page) if language == "sh"), *_spans(page)]
    named = {target for text in code for target in re.findall(r"(?:^|&& )make ([a-z][\w-]*)", text, re.MULTILINE)}
    assert named <= targets, f"no target {', '.join(sorted(named - targets))}"


@cache
def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@for_each(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"no file {target}"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file), f"no heading {target}"


@for_each([page for page in PAGES if page.name != "performance.md"])
def test_lines_are_short(page: Path) -> None:
    """At most 120 characters, except in tables, code and what programs write."""
    prose = re.sub(r"^<!-- (\w[^>]*) -->$.*?^<!-- /\1 -->$", "", _prose(page), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in prose.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not long, f"{len(long)} lines, first: {long[0]}"


@cache
def _names() -> set[str]:
    """The names of all files in the repository, without what is installed or built there."""
    passed = {"node_modules", "build", "dist", "runs"}
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return {path.name for path in files if not passed & set(path.relative_to(ROOT).parts)}


@for_each(CURRENT)
def test_named_files_exist(page: Path) -> None:
    for span in _spans(page):
        for path in re.findall(rf"(?<![\w./@-])((?:{'|'.join(FOLDERS)})/[\w./-]*)(?![\w*{{])", span):
            if "/dist/" in path or path.endswith("/lib"):  # written by a build
                continue
            path = path.rstrip("./")
            assert path in ELSEWHERE or (ROOT / path).exists(), f"no file {path}"
        if re.fullmatch(rf"[\w-]+\.({SUFFIXES})", span) and span.endswith((".py", ".ts", ".java", ".swift", ".sh")):
            assert span in _names(), f"no file is called {span}"


def _lacks(dotted: str) -> str | None:
    """The part of ``package.module.name`` that does not exist; found in the sources, nothing is imported."""
    first, *rest = dotted.split(".")
    place = ROOT / first
    while rest and ((place / rest[0]).is_dir() or (place / f"{rest[0]}.py").is_file()):
        place = place / rest.pop(0)
    module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    if rest and not re.search(rf"\b{rest[0]}\b", module.read_text(encoding="utf-8")):
        return f"{module.relative_to(ROOT).as_posix()} has no {rest[0]}"
    return None


@for_each(CURRENT)
def test_named_definitions_exist(page: Path) -> None:
    """``package.module.name`` in running text is a module, or a name that the module defines or imports."""
    for span in _spans(page):
        match = re.match(rf"((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?![\w/\[])", span)
        if match and match[1].split(".")[-1] not in SUFFIXES.split("|"):
            assert (lack := _lacks(match[1])) is None, f"{span}: {lack}"


@for_each([page for page in CURRENT if any(kind == "python" for kind, _ in _fences(page))])
def test_python_blocks_use_what_exists(page: Path) -> None:
    for kind, block in _fences(page):
        for node in ast.walk(ast.parse(block)) if kind == "python" else ():
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sdk":
                names = [f"sdk.{node.attr}"]
            for name in names:
                if name.split(".")[0] in PACKAGES:
                    assert (lack := _lacks(name)) is None, lack


def test_pages_named_in_the_sources_exist() -> None:
    for path in (path for folder in (*PACKAGES, "benchmarks") for path in (ROOT / folder).rglob("*.py")):
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8")):
            assert (ROOT / page).is_file(), f"{path.relative_to(ROOT).as_posix()} names {page}"
