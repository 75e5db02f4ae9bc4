"""The import walls of docs/architecture.md, held by a walk over the syntax trees: who may import whom, and where."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "resa_hub"
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "sae_lens",
    "vllm",
    "accelerate",
    "safetensors",
    "datasets",
    "huggingface_hub",
    "tokenizers",
    "jaxtyping",
} | {
    "numpy",
    "scipy",
    "statsmodels",
    "pandas",
    "matplotlib",
    "rich",
    "jinja2",
    "pydantic",
}
HEAVY_FILES = ("engine/", "data/tiny/tokenizer.py")
"""The only places that may import them when they are imported themselves."""
LIGHT_FILES = ("engine/generation/base.py", "engine/__init__.py", "engine/generation/__init__.py")
"""Files of the heavy wing that others read: light as everything outside it."""


class Wall(NamedTuple):
    floor: int
    may: set[str]
    """Rooms, or single modules of a room, that a room may import; itself is always free."""
    lazily: set[str] = set()
    """Besides: inside functions, or for types alone."""


WALLS: dict[str, Wall] = {
    "core": Wall(1, set()),
    "config": Wall(2, {"core"}),
    "data": Wall(3, {"core", "config"}),
    "adapter": Wall(3, {"core", "config"}),
    "report": Wall(4, {"core", "adapter.results", "adapter.usage"}),
    "hub": Wall(4, {"core", "config", "data", "adapter"}),
    "engine": Wall(4, {"core", "config", "data", "adapter.manifest", "adapter.layout", "adapter.fit"}),
    "inference": Wall(5, {"core", "config", "data", "adapter", "hub"}, {"engine"}),
    "upkeep": Wall(5, {"core", "config", "adapter", "hub"}),
    "evaluation": Wall(5, {"core", "config", "data", "adapter", "hub", "report", "engine.generation.base"}, {"engine"}),
    "extraction": Wall(6, {"core", "config", "data", "adapter", "hub", "evaluation"}, {"engine"}),
    "cli": Wall(
        7,
        {"core", "config.methods", "config.remotes"},
        {"config", "data", "adapter", "hub", "report", "inference", "upkeep", "evaluation", "extraction"},
    ),
    "api": Wall(7, {"core", "config", "adapter", "hub", "report", "inference", "evaluation", "extraction"}),
    "__init__": Wall(
        8, set(), {"core.errors", "adapter.workspace", "api", "inference", "evaluation", "extraction", "hub"}
    ),
    "__main__": Wall(8, {"cli"}),
}
"""Every room of docs/architecture.md: its floor, and what it may import."""


class Import(NamedTuple):
    module: str
    """Dotted, relative to the package for our own (`adapter.files`), else the top name."""
    ours: bool
    top_level: bool
    line: int


def imports(source: str, path: str) -> Iterator[Import]:
    """Every import of the file at `path` below the package; those inside functions and under TYPE_CHECKING are not
    top-level.
    """
    tree = ast.parse(source)
    inner = {id(child) for node in ast.walk(tree) if _delays(node) for child in ast.walk(node) if child is not node}
    folders = path.split("/")[:-1]
    for node in ast.walk(tree):
        top = id(node) not in inner
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*folders[: len(folders) - node.level + 1], *([node.module] if node.module else [])])
            names = ["resa_hub." + ".".join(filter(None, (base, alias.name))) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and isinstance(node.args[0], ast.Constant)
        ):
            names = [str(node.args[0].value)]
        else:
            continue
        for name in names:
            ours = name == "resa_hub" or name.startswith("resa_hub.")
            yield Import(
                name.removeprefix("resa_hub").removeprefix(".") if ours else name.partition(".")[0],
                ours,
                top,
                node.lineno,
            )


def _delays(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
        isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )


def part_of(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def violations(source: str, path: str) -> list[str]:
    """What the file breaks, one line each."""
    part, broken = part_of(path), []
    wall = WALLS[part]
    for found in imports(source, path):
        where = f"{path}:{found.line} imports {found.module}"
        if not found.ours:
            heavy_wing = path.startswith(HEAVY_FILES) and path not in LIGHT_FILES
            if found.module in HEAVY and found.top_level and not heavy_wing:
                broken.append(f"{where} at module level")
        elif found.module.partition(".")[0] != part and not allowed(found.module, wall.may):
            if not allowed(found.module, wall.lazily):
                broken.append(where)
            elif found.top_level:
                broken.append(f"{where} at module level")
    return broken


def allowed(module: str, rooms: set[str]) -> bool:
    return any(f"{module}.".startswith(f"{room}.") for room in rooms)


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def test_every_room_has_its_wall() -> None:
    assert {part_of(path) for path in FILES} == set(WALLS)


def test_no_arrow_runs_upwards_or_along_a_floor() -> None:
    """So there is no circle either."""
    for room, wall in WALLS.items():
        for other in wall.may | wall.lazily:
            assert WALLS[other.partition(".")[0]].floor < wall.floor, (room, other)


def test_every_arrow_of_the_table_is_used() -> None:
    """A permission that nothing needs is taken away."""
    used = {
        (part_of(path), room)
        for path in FILES
        for found in imports((PACKAGE / path).read_text(), path)
        for room in WALLS[part_of(path)].may | WALLS[part_of(path)].lazily
        if found.ours and allowed(found.module, {room})
    }
    assert {(room, other) for room, wall in WALLS.items() for other in wall.may | wall.lazily} == used


@pytest.mark.parametrize("path", FILES)
def test_walls_hold(path: str) -> None:
    assert violations((PACKAGE / path).read_text(), path) == []


def _module_arrows() -> dict[str, set[str]]:
    """File -> the files that it imports, inside functions too."""
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in FILES}
    arrows: dict[str, set[str]] = {path: set() for path in FILES}
    for path in FILES:
        for found in imports((PACKAGE / path).read_text(), path):
            module = found.module
            while found.ours and module and module not in names:
                module = module.rpartition(".")[0]
            if found.ours and module and names[module] != path:
                arrows[path].add(names[module])
    return arrows


def _circle(arrows: dict[str, set[str]]) -> list[str]:
    """One circle of files, or nothing."""
    done: set[str] = set()

    def visit(path: str, trail: list[str]) -> list[str]:
        if path in trail:
            return [*trail[trail.index(path) :], path]
        if path in done:
            return []
        for other in sorted(arrows[path]):
            if found := visit(other, [*trail, path]):
                return found
        done.add(path)
        return []

    return next((found for path in sorted(arrows) if (found := visit(path, []))), [])


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert _circle(_module_arrows()) == []


def test_a_circle_is_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


CAUGHT = [
    ("core/errors.py", "from ..config.refs import Repo"),
    ("core/errors.py", "def f():\n    from ..config.refs import Repo"),
    ("config/recipe.py", "from ..adapter.manifest import Manifest"),
    ("data/snapshots.py", "from ..adapter.store import Store"),
    ("adapter/store.py", "from ..hub import sharing"),
    ("adapter/layout.py", "import numpy"),
    ("adapter/layout.py", "from numpy import zeros"),
    ("adapter/layout.py", "from ..engine.model.lora import merge"),
    ("adapter/store.py", "def f():\n    from ..hub.folder import FolderRemote"),
    ("hub/huggingface.py", "from ..engine.model import lora"),
    ("hub/huggingface.py", "import resa_hub.cli.app"),
    ("hub/huggingface.py", "try:\n    import huggingface_hub\nexcept ImportError: ..."),
    ("report/page.py", "from ..evaluation.statistics import holm"),
    ("report/page.py", "from ..adapter.store import Store"),
    ("evaluation/statistics.py", "import scipy.stats"),
    ("evaluation/arms.py", "from ..extraction.plan import plan"),
    ("evaluation/arms.py", "from ..engine.model.lora import merge"),
    ("inference/attach.py", "def f():\n    from ..evaluation.evaluate import evaluate"),
    ("engine/sae/train.py", "from ...evaluation.verdict import Verdict"),
    ("engine/sae/train.py", "def f():\n    from ...cli import output"),
    ("engine/model/lora.py", "from ...adapter.store import Store"),
    ("engine/model/lora.py", "from ...adapter import store"),
    ("engine/generation/base.py", "import torch"),
    ("engine/methods/context.py", "from ...hub.resolve import resolve_adapter"),
    ("extraction/extract.py", "from ..engine.run import make"),
    ("extraction/extract.py", "class A:\n    from ..engine.model import lora"),
    ("evaluation/evaluate.py", "from .. import cli"),
    ("cli/extract.py", "from ..extraction.extract import extract"),
    ("cli/extract.py", "def f():\n    from ..engine.model.lora import merge"),
    ("cli/app.py", "from ..config.registry import Registry"),
    ("data/tiny/task.py", "import torch"),
    ("__init__.py", "from .extraction.extract import extract"),
]


@pytest.mark.parametrize(("path", "source"), CAUGHT)
def test_violation_is_caught(path: str, source: str) -> None:
    assert len(violations(source, path)) == 1


FREE = [
    ("adapter/layout.py", "def f():\n    import numpy"),
    ("hub/huggingface.py", "if TYPE_CHECKING:\n    from huggingface_hub import HfApi"),
    ("engine/model/lora.py", "import torch\nfrom ...adapter.layout import CONFIG"),
    ("evaluation/arms.py", "from ..engine.generation.base import Sample"),
    ("evaluation/arms.py", "def f():\n    from ..engine.generation.transformers_engine import TransformersEngine"),
    ("extraction/extract.py", "def f():\n    from ..engine.run import make"),
    ("cli/extract.py", "from .output import Output\ndef f():\n    from ..extraction.extract import extract"),
]


@pytest.mark.parametrize(("path", "source"), FREE)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert violations(source, path) == []
