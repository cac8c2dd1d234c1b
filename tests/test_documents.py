"""Every fenced block of README.md, CONTRIBUTING.md and docs/ is run or parsed, so the documents stay true.

All blocks of one document share one temporary folder and run from top to bottom. The folder begins with the
tables of tests/document_data.py; that of README.md begins empty, since a newcomer's does:

* ``python`` runs in one namespace per document;
* ``console`` runs the lines that begin with ``$ ``; the lines between them are output, of which whole JSON
  objects are compared, their numbers to 0.02, since processors round differently;
* ``bash`` runs whole; in both, ``python`` and ``.venv/bin/clickscale`` are those of the environment that
  runs the test, and ``clickscale`` is a fork of a process that has loaded torch (`tests.forked_commands`); a
  ``make`` line is not executed: its targets have to exist in the Makefile; the two commands with which most
  documents begin, `BEGINNING`, run once for all of them;
* ``toml``, ``json``, ``jsonl`` and ``csv`` are parsed; ``text`` is left alone; any other tag is refused.

An HTML comment on the line before a block changes that:

* ``<!-- not run: reason -->`` leaves a ``python``, ``console`` or ``bash`` block out; it needs the reason;
* ``<!-- exit: 2 -->`` expects this exit code of a ``console`` or ``bash`` block, to show an error message;
* ``<!-- file: schema.toml -->`` writes the block under this name into the folder, for later blocks to use.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.document_data import write_document_data
from tests.forked_commands import CommandServer

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
    if path.is_file()
]
# What newcomers and contributors type, from a raw log to a server. The blocks of others are wide.
EVERYDAY = {"README.md", "CONTRIBUTING.md", "docs/data.md", "docs/serving.md"}
TAGS = {"python", "console", "bash", "toml", "json", "jsonl", "csv", "text"}
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<tag>[^`]*)$")
REMARK = re.compile(r"<!--\s*(?P<key>not run|exit|file):(?P<value>.*?)-->")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
TIMEOUT = 120  # seconds for one block
BEGINNING = [
    "clickscale schema guess clicks.csv items.csv users.csv --out schema.toml",
    "clickscale prepare schema.toml --out prepared",
]


def name(path: Path) -> str:
    """Name a document by its place in the repository."""
    return path.relative_to(ROOT).as_posix()


class DocumentError(AssertionError):
    """A block of a document is wrong; the message says which and why."""


@dataclass(frozen=True)
class Block:
    """One fenced block: where it begins, its tag, its text, and the remark on the line before it."""

    where: str
    line: int
    tag: str
    text: str
    remark: tuple[str, str] | None = None

    def fail(self, problem: str) -> DocumentError:
        return DocumentError(f"{self.where}:{self.line} ({self.tag or 'no tag'}): {problem}")


def blocks(markdown: str, where: str) -> Iterator[Block]:
    """Yield the fenced blocks of a document in order."""
    lines = iter(enumerate(markdown.splitlines(), 1))
    before = ""
    for number, line in lines:
        opened = FENCE.match(line)
        if opened:
            body = []
            for _, inner in lines:
                if inner.strip() == opened["fence"]:
                    break
                body.append(inner.removeprefix(opened["indent"]))
            remark = REMARK.search(before)
            note = (remark["key"], remark["value"].strip()) if remark else None
            yield Block(where, number, opened["tag"].strip(), "\n".join(body) + "\n", note)
        before = line


def only_block(markdown: str) -> Block:
    """Take the block of a text that has one."""
    (block,) = blocks(markdown, "page.md")
    return block


def make_targets(makefile: str) -> set[str]:
    """Name the targets a Makefile offers."""
    return set(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE))


def commands(block: Block) -> list[str]:
    """Split a console or bash block into commands; a backslash at the end of a line continues the command."""
    found: list[str] = []
    for line in block.text.splitlines():
        if found and found[-1].endswith("\\"):
            found[-1] += "\n" + line.removeprefix("> ")
        elif block.tag == "bash":
            found.append(line)
        elif line.startswith("$ "):
            found.append(line.removeprefix("$ "))
    if not any(command.strip() for command in found):
        raise block.fail("holds no command; a console block marks each with '$ '")
    return found


def run_shell(block: Block, folder: Path, expected: int) -> None:
    """Run the commands of a block as one script, its make lines only looked up.

    The programs of ``folder/.bin`` come first, then those of ``folder/.venv/bin``. What the commands of
    `BEGINNING` write to the folder is copied from ``folder/.begun``, if the folder has that.
    """
    known = make_targets((ROOT / "Makefile").read_text("utf-8"))
    script = []
    for command in commands(block):
        if command.startswith("make "):
            wanted = {
                word for word in command.split("#")[0].split()[1:] if "=" not in word and word[0] != "-"
            }
            if not wanted <= known:
                raise block.fail(f"Makefile has no target {', '.join(sorted(wanted - known))}")
        else:
            script.append(command)
    if script[:2] == BEGINNING and (folder / ".begun").exists():
        shutil.copy(folder / ".begun/schema.toml", folder)
        shutil.copytree(folder / ".begun/prepared", folder / "prepared")
        del script[:2]
    places = (str(folder / ".bin"), str(folder / ".venv/bin"), os.environ["PATH"])
    environment = os.environ | {"PATH": os.pathsep.join(places)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if done.returncode != expected:
        ends = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        raise block.fail(f"exit code {done.returncode} instead of {expected}\n{ends}")
    printed = answers(done.stdout)
    if block.tag == "console" and not all(
        any(alike(one, it) for it in printed) for one in answers(block.text)
    ):
        raise block.fail(f"shows another answer than\n{done.stdout[-2000:]}")


def answers(text: str) -> list[dict[str, Any]]:
    """Read the lines of a text that are whole JSON objects; one that is shortened with dots is none."""
    found = []
    for line in text.splitlines():
        with suppress(ValueError):
            value = json.loads(line)
            found += [value] if isinstance(value, dict) else []
    return found


def alike(one: Any, other: Any) -> bool:
    """True if two values are equal, but for the last digits of their fractions."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 0.02
    return bool(one == other)


def run_python(block: Block, namespace: dict[str, Any]) -> None:
    """Execute a python block; its line numbers in a traceback are those of the document."""
    source = "\n" * block.line + block.text
    try:
        exec(compile(source, block.where, "exec", dont_inherit=True), namespace)
    except Exception as error:
        raise block.fail(f"{type(error).__name__}: {error}") from error


def parse(block: Block) -> None:
    """Read a block of data in the format that its tag names."""
    try:
        if block.tag == "toml":
            tomllib.loads(block.text)
        elif block.tag == "json":
            json.loads(block.text)
        elif block.tag == "jsonl":
            [json.loads(line) for line in block.text.splitlines()]
        elif block.tag == "csv" and len({len(row) for row in csv.reader(block.text.splitlines())}) != 1:
            raise ValueError("rows of different lengths")
    except ValueError as error:
        raise block.fail(f"is not {block.tag}: {error}") from error


def run_block(block: Block, folder: Path, namespace: dict[str, Any]) -> None:
    """Do with a block what its tag and the remark before it ask for."""
    key, value = block.remark or ("", "")
    if block.tag not in TAGS:
        raise block.fail(f"tag it as one of {', '.join(sorted(TAGS))}")
    if key == "not run" and not value:
        raise block.fail("'not run' needs a reason")
    if key == "file":
        (folder / value).parent.mkdir(parents=True, exist_ok=True)
        (folder / value).write_text(block.text, "utf-8")
    if key != "not run" and block.tag == "python":
        run_python(block, namespace)
    elif key != "not run" and block.tag in ("console", "bash"):
        run_shell(block, folder, int(value) if key == "exit" else 0)
    else:
        parse(block)


def prepare_folder(folder: Path, tables: Path | None = None) -> None:
    """Give a document copies of its tables and the environment under the name that its commands use."""
    if tables is not None:
        shutil.copytree(tables, folder, dirs_exist_ok=True)
    (folder / ".venv").symlink_to(sys.prefix)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables of tests/document_data.py and nothing else."""
    folder = tmp_path_factory.mktemp("tables")
    write_document_data(folder)
    return folder


@pytest.fixture(scope="module")
def begun(command_server: CommandServer, tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of `BEGINNING` have run."""
    folder = tmp_path_factory.mktemp("begun")
    prepare_folder(folder, tables)
    (folder / ".bin").symlink_to(command_server.folder)
    lines = "".join(f"$ {command}\n" for command in BEGINNING)
    run_shell(only_block(f"```console\n{lines}```"), folder, 0)
    return folder


def anchors(markdown: str) -> set[str]:
    """Name the headings of a document as links to them are written."""
    headings = re.findall(r"^#+ +(.*?)\s*$", without_blocks(markdown), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_blocks(markdown: str) -> str:
    """Leave the fenced blocks out: what looks like a heading or a link there is neither."""
    return re.sub(r"^ *(`{3,}|~{3,}).*?^ *\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)


def broken_links(markdown: str, path: Path) -> list[str]:
    """List links to files or headings that do not exist; addresses on the web are not looked up."""
    broken = []
    for link in LINK.finditer(without_blocks(markdown)):
        name, _, anchor = link["target"].partition("#")
        goal = path.parent / name if name else path
        if re.match(r"[a-z]+:", name):
            continue
        if not goal.exists() or (
            anchor and goal.suffix == ".md" and anchor not in anchors(goal.read_text("utf-8"))
        ):
            broken.append(link["target"])
    return broken


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if name(path) in EVERYDAY else pytest.mark.wide) for path in DOCUMENTS],
    ids=name,
)
def test_every_block_of_a_document_works(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command_server: CommandServer,
    tables: Path,
    begun: Path,
) -> None:
    found = list(blocks(path.read_text("utf-8"), name(path)))
    newcomer = path == ROOT / "README.md"
    prepare_folder(tmp_path, None if newcomer else tables)
    (tmp_path / ".bin").symlink_to(command_server.folder)
    if not newcomer:
        (tmp_path / ".begun").symlink_to(begun)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in found:
        run_block(block, tmp_path, namespace)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    assert broken_links(path.read_text("utf-8"), path) == []


# --- what runs the documents: each fault that a document can have is seen


def test_a_block_keeps_its_line_tag_text_and_remark() -> None:
    page = "one\n\n<!-- file: a.toml -->\n```toml\nx = 1\n```\n\n  ~~~~text\n  ```\n  ~~~~\n"
    assert list(blocks(page, "page.md")) == [
        Block("page.md", 4, "toml", "x = 1\n", ("file", "a.toml")),
        Block("page.md", 8, "text", "```\n"),
    ]


@pytest.mark.parametrize(
    ("markdown", "problem"),
    [
        ("```python\nassert 1 == 2\n```", "AssertionError"),
        ("```console\n$ exit 3\n```", "exit code 3 instead of 0"),
        ('```console\n$ echo \'{"x": [0.3]}\'\n{"x": [0.33]}\n```', "shows another answer"),
        ("```bash\nfalse\ntrue\n```", "exit code 1 instead of 0"),
        ("<!-- exit: 2 -->\n```console\n$ true\n```", "exit code 0 instead of 2"),
        ("```console\nonly output\n```", "holds no command"),
        ("```console\n$ make tea\n```", "no target tea"),
        ("<!-- not run: -->\n```console\n$ true\n```", "needs a reason"),
        ("```\nx\n```", "tag it as one of"),
        ("```yaml\nx: 1\n```", "tag it as one of"),
        ("```toml\nx = \n```", "is not toml"),
        ("```json\n{'x': 1}\n```", "is not json"),
        ('```jsonl\n{"x": 1}\n{\n```', "is not jsonl"),
        ("```csv\na,b\n1\n```", "is not csv"),
    ],
)
def test_a_faulty_block_is_seen(markdown: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=problem):
        run_block(only_block(markdown), tmp_path, {})


@pytest.mark.parametrize(
    "markdown",
    [
        "<!-- not run: downloads 6 MB -->\n```console\n$ false\n```",
        "<!-- exit: 2 -->\n```console\n$ exit 2\nError: no such thing\n```",
        "```console\n$ make test PYTHON=python3.12  # another interpreter\n```",
        "```console\n$ test 1 = \\\n> 1\n```",
        "```text\nanything { at all\n```",
        "```csv\na,b\n1,2\n```",
    ],
)
def test_a_sound_block_passes(markdown: str, tmp_path: Path) -> None:
    run_block(only_block(markdown), tmp_path, {})


def test_blocks_of_one_document_build_on_each_other(tmp_path: Path) -> None:
    page = "<!-- file: a/b.toml -->\n```toml\nx = 1\n```\n```console\n$ grep -c x a/b.toml > n\n```\n"
    page += f"```python\nimport pathlib\nn = pathlib.Path({str(tmp_path / 'n')!r}).read_text()\n```\n"
    page += "```python\nassert n == '1\\n'\n```\n"
    namespace: dict[str, Any] = {}
    for block in blocks(page, "page.md"):
        run_block(block, tmp_path, namespace)
    assert namespace["n"] == "1\n"


def test_a_forked_command_is_the_command(command_server: CommandServer, tmp_path: Path) -> None:
    (tmp_path / ".bin").symlink_to(command_server.folder)
    prepare_folder(tmp_path)
    block = "```console\n$ clickscale --version > a && .venv/bin/clickscale --version > b && cmp a b\n```"
    run_block(only_block(block), tmp_path, {})
    run_block(only_block("<!-- exit: 2 -->\n```console\n$ clickscale inspect nowhere\n```"), tmp_path, {})


def test_the_beginning_of_a_document_is_what_its_commands_write(
    begun: Path, tables: Path, tmp_path: Path
) -> None:
    (tmp_path / ".bin").symlink_to(begun / ".bin")
    prepare_folder(tmp_path, tables)
    lines = "".join(f"$ {command}\n" for command in BEGINNING)
    page = f"```console\n{lines}$ head -1 schema.toml\n```"
    run_block(only_block(page), tmp_path, {})
    for name in ("schema.toml", "prepared"):
        shutil.move(tmp_path / name, tmp_path / f"written-{name}")
    (tmp_path / ".begun").symlink_to(begun)
    run_block(only_block(page), tmp_path, {})
    run_block(
        only_block(
            "```console\n$ cmp schema.toml written-schema.toml\n$ diff -r prepared written-prepared\n```"
        ),
        tmp_path,
        {},
    )


def test_commands_run_in_the_environment_of_the_tests(tables: Path, tmp_path: Path) -> None:
    prepare_folder(tmp_path, tables)
    run_block(only_block("```console\n$ python -c 'import msgspec'\n$ head -1 clicks.csv\n```"), tmp_path, {})


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One, two: three\n", "utf-8")
    good = "[a](page.md) [b](page.md#one-two-three) [c](https://example.org/x)\n```text\n[d](e)\n```\n"
    assert broken_links(good, page) == []
    assert broken_links("[a](other.md) [b](page.md#four) [c](#five)", page) == [
        "other.md",
        "page.md#four",
        "#five",
    ]
