"""docs/reference/ is what the program says now, and leaves nothing out."""

import ast
import re
from pathlib import Path

import pytest

from resa_hub.adapter import layout
from resa_hub.core import errors
from resa_hub.upkeep.kept import KINDS
from resa_hub.upkeep.workspace_checks import VARIABLES
from scripts import reference
from scripts.docs_pages import environment, exit_codes, files
from tests.test_walls import FILES, PACKAGE

ANEW = "docs/reference/ is not current: run `python scripts/reference.py`"
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Za-z0-9]+)+|RANK|COLUMNS")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference.pages()


def test_the_reference_is_current(pages: dict[str, str]) -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in reference.FOLDER.iterdir()}
    assert sorted(written) == sorted(pages), ANEW
    assert [name for name, text in pages.items() if written[name] != text] == [], ANEW


def variables(source: str) -> set[str]:
    """The texts of a file that speaks of the environment which are written as a variable's name is."""
    if "environ" not in source:
        return set()
    tree = ast.parse(source)
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if VARIABLE.fullmatch(text)}


def test_every_variable_that_is_read_is_told() -> None:
    told = {name for group in environment.GROUPS.values() for name in group}
    read = {name for path in FILES for name in variables((PACKAGE / path).read_text())}
    assert {"RESA_HUB_WORKSPACE", "WORLD_SIZE", "RANK", "NO_COLOR", "HF_ENDPOINT"} <= read
    assert read - told == set()
    assert set(VARIABLES) - told == set()


def test_a_variable_is_found_wherever_it_is_read() -> None:
    assert variables('import os\nos.environ.get("SOME_NAME")\nNAME = "RANK"') == {"SOME_NAME", "RANK"}
    assert variables('NAME = "SOME_NAME"') == set()


def test_every_error_has_its_exit_code(pages: dict[str, str]) -> None:
    told = [kind.exit_code for kind in exit_codes.kinds()]
    assert told == list(range(1, 10))
    assert all(f"`{kind.__name__}` | {kind.__doc__}" in pages["exit-codes.md"] for kind in exit_codes.kinds())
    assert errors.NotFound in exit_codes.kinds()


def test_files_of_an_adapter_are_those_that_are_allowed() -> None:
    samples = [path.replace("layers.N", "layers.7").replace("*", "a") for path in files.ADAPTER]
    assert [path for path in samples if not layout.ALLOWED.fullmatch(path)] == []
    named = (layout.WEIGHTS, layout.CONFIG, layout.MANIFEST, layout.CARD, layout.SIGNATURE)
    assert {*named, "evals/*.json", "evals/*.png"} <= set(files.ADAPTER)


def test_every_kind_that_is_kept_has_its_place() -> None:
    assert list(files.PLACES) == list(KINDS)


def test_every_verb_and_option_is_told(pages: dict[str, str]) -> None:
    from tests.test_python_door import commands

    for name, command in commands().items():
        assert f"\n### {name}\n" in pages["cli.md"]
        shown = [param for param in command.params if param.opts and not getattr(param, "hidden", False)]
        for option in (option for param in shown for option in param.opts if option.startswith("--")):
            assert f"`{option}`" in pages["cli.md"], (name, option)


def test_every_function_is_told(pages: dict[str, str]) -> None:
    import resa_hub

    headings = re.findall(r"^### (\w+)$", pages["python.md"], re.MULTILINE)
    assert set(resa_hub.__all__) - set(headings) == {"HubError", "Workspace"}
    assert len(headings) == len(set(headings))


def test_pages_link_to_what_is_there(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            target = (reference.FOLDER / link).resolve()
            assert target.exists() or target.name in pages, (name, link)
    assert isinstance(reference.FOLDER, Path)
