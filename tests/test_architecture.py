"""docs/architecture.md against the folders and against WALLS, and the paths that it and CONTRIBUTING.md name."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_walls import FILES, WALLS, Wall

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "resa_hub"
DOCUMENT = ROOT / "docs" / "architecture.md"
GUIDES = [DOCUMENT, ROOT / "CONTRIBUTING.md"]
INDEX = ROOT / "docs" / "decisions" / "README.md"
INDENT = 2
PATH = re.compile(r"(?<![\w/.-])(?:[\w.-]+/)+[\w.-]+\.py\b(?::([A-Za-z_]\w*(?:\.\w+)?))?")
"""`folder/file.py`, perhaps with `:name`; one whose file is in CAPITALS stands for a new file."""
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


def tree_of(text: str) -> list[str]:
    """The lines of the block that is fenced with the word `tree`."""
    block = re.search(r"^```tree\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block, "the document has no block of the kind `tree`"
    return block[1].splitlines()


def listed(lines: list[str]) -> list[str]:
    """The files of a tree, relative to its top; indentation is depth, a folder ends with a slash."""
    folders: list[str] = []
    files = []
    for line in lines:
        indent = len(line) - len(line.lstrip())
        name, _, about = line.strip().partition(" ")
        depth, rest = divmod(indent, INDENT)
        assert rest == 0 and depth <= len(folders), f"wrong indentation: {line!r}"
        del folders[depth:]
        if name.endswith("/"):
            folders.append(name)
        else:
            assert about.strip(), f"nothing is said of {line!r}"
            files.append("".join([*folders[1:], name]))
    return files


def floors_of(lines: list[str]) -> dict[str, int]:
    """Part -> floor, as the headings of the tree say it."""
    found = (re.match(r" {2}(\w+)(?:/|\.py) +floor (\d):", line) for line in lines)
    return {match[1]: int(match[2]) for match in found if match}


def walls_of(text: str) -> dict[str, Wall]:
    """The table of the walls, row by row."""
    rows = [re.split(r" *\| *", line.strip("| \n")) for line in text.splitlines() if line.startswith("| ")]
    start = rows.index(["part", "floor", "may import", "lazily besides"]) + 1
    walls = {}
    for part, floor, may, lazily in (row for row in rows[start:] if len(row) == 4 and row[1].isdecimal()):
        walls[part.strip("`")] = Wall(int(floor), _names(may), _names(lazily))
    return walls


def _names(cell: str) -> set[str]:
    return set() if cell == "-" else set(cell.split(", "))


def missing(text: str) -> list[str]:
    """The paths of a text that do not exist, and the names that their files do not define."""
    wrong = []
    for match in PATH.finditer(text):
        path, name = match[0].partition(":")[0], match[1]
        if Path(path).stem.isupper():
            continue
        file = next((folder / path for folder in (ROOT, PACKAGE) if (folder / path).is_file()), None)
        if file is None:
            wrong.append(path)
        elif name and name not in set(defined(file.read_text())):
            wrong.append(match[0])
    return wrong


def defined(source: str) -> Iterator[str]:
    """Functions, classes, `Class.method` and constants at the top of a file."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}"


def test_tree_names_every_file_once_and_nothing_else() -> None:
    own = [path for path in FILES if not path.endswith("__init__.py") and not path.startswith("data/tiny/weights/")]
    assert sorted(listed(tree_of(DOCUMENT.read_text()))) == sorted(own)


def test_floors_and_arrows_are_those_of_the_walls() -> None:
    text = DOCUMENT.read_text()
    assert walls_of(text) == WALLS
    assert floors_of(tree_of(text)) == {part: wall.floor for part, wall in WALLS.items() if part != "__init__"}


@pytest.mark.parametrize("guide", [*GUIDES, INDEX], ids=lambda path: path.name)
def test_what_a_guide_names_is_there(guide: Path) -> None:
    text = guide.read_text()
    assert PATH.search(text) and missing(text) == []
    assert [link for link in LINK.findall(text) if not (guide.parent / link).exists()] == []


def test_the_index_has_every_decision() -> None:
    records = {path.name for path in INDEX.parent.glob("0*.md")}
    assert sorted(LINK.findall(INDEX.read_text())) == sorted(records)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_guides_have_120_columns(guide: Path) -> None:
    """But for rows of tables, which cannot be wrapped."""
    lines = guide.read_text().splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


BROKEN = """
```tree
top/
  core/          floor 1: what all use
    errors.py    errors
    errors.py    errors
  one.py         floor 3: a file
```

| part | floor | may import | lazily besides |
|---|---|---|---|
| core | 2 | - | config, data |
| `one` | 3 | core | - |

See `core/errors.py:HubError`, `core/errors.py:Nothing`, `core/nowhere.py`, `engine/methods/NAME.py`.
"""


def test_a_broken_document_is_caught() -> None:
    lines = tree_of(BROKEN)
    assert listed(lines) == ["core/errors.py", "core/errors.py", "one.py"]
    assert floors_of(lines) == {"core": 1, "one": 3}
    assert walls_of(BROKEN) == {"core": Wall(2, set(), {"config", "data"}), "one": Wall(3, {"core"})}
    assert missing(BROKEN) == ["core/errors.py:Nothing", "core/nowhere.py"]
    for wrong in ("   odd.py  three blanks", "      deep.py  no folder above", "  bare.py"):
        with pytest.raises(AssertionError):
            listed(["top/", wrong])
    with pytest.raises(AssertionError, match="no block"):
        tree_of(BROKEN.replace("tree", "text"))
