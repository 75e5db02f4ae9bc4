"""The import walls of docs and design, held by a walk over the syntax trees: who may import whom, and where."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "resa_hub"
HEAVY = {"torch", "transformers", "peft", "sae_lens", "vllm", "accelerate", "safetensors", "datasets", "huggingface_hub", "tokenizers", "jaxtyping"} | {
    "numpy", "scipy", "statsmodels", "pandas", "matplotlib", "rich", "jinja2", "pydantic",
}  # fmt: skip
HEAVY_FILES = ("engine/", "tiny/train.py", "tiny/tokenizer.py")
"""The only places that may import them when they are imported themselves."""

ARTIFACT = {"errors", "refs", "recipe", "adapter"}
"""An adapter and what it is told in."""
BELOW_VERBS = ARTIFACT | {"progress", "entries", "registry", "sources", "datasets", "workspace", "remotes", "evaluation", "benchmarks", "tiny"}

MAY: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "failures": {"errors"},
    "progress": set(),
    "work": {"errors"},
    "refs": {"errors"},
    "recipe": {"errors", "refs"},
    "operations": set(),
    "gpus": set(),
    "entries": {"errors", "refs", "recipe"},
    "registry": {"errors", "refs", "recipe", "entries"},
    "tiny": set(),
    "tiny/train.py": {"recipe", "engine", "tiny"},
    "adapter": ARTIFACT,
    "sources": ARTIFACT | {"tiny"},
    "datasets": {"errors", "refs", "recipe", "entries", "sources", "tiny"},
    "benchmarks": {"errors", "refs", "entries", "registry", "datasets", "tiny"},
    "remotes": ARTIFACT | {"sources"},
    "evaluation": ARTIFACT | {"sources", "gpus"},
    "workspace": {"errors", "registry", "adapter"},
    "architectures": {"errors"},
    "ranks": set(),
    "__main__": {"cli"},
    "engine": {"ranks", "errors", "refs", "recipe", "operations", "templates", "progress", "adapter", "sources", "evaluation"},
    "plan": {"errors", "refs", "recipe", "entries", "registry"},
    "templates": {"errors"},
    "stages": {"operations", "recipe", "refs"},
    "estimate": {"datasets", "entries", "gpus", "operations", "plan", "recipe", "refs", "registry", "sources", "stages", "templates", "tiny"},
    "lineage": {"errors", "plan", "recipe", "refs", "registry", "tiny"},
    "published": {"recipe", "entries", "registry"},
    "pins": {"errors", "refs", "entries", "registry", "remotes", "tiny", "workspace"},
    "saes": {"errors", "refs", "recipe", "registry", "sources"},
    "inputs": BELOW_VERBS | {"architectures", "plan", "saes"},
    "extract": BELOW_VERBS | {"ranks", "plan", "work", "failures", "saes", "inputs"},
    "signing": BELOW_VERBS,
    "adapters": BELOW_VERBS | {"signing"},
    "compare": ARTIFACT | {"record"},
    "imports": BELOW_VERBS,
    "sae_imports": BELOW_VERBS | {"saes", "pins"},
    "reproduce": BELOW_VERBS | {"plan", "extract", "compare", "adapters", "record"},
    "attach": BELOW_VERBS | {"adapters"},
    "collect": BELOW_VERBS | {"failures"},
    "workers": BELOW_VERBS | {"collect"},
    "evaluate": BELOW_VERBS | {"attach", "adapters", "collect"},
    "sizing": BELOW_VERBS | {"evaluate", "record"},
    "executors": {"errors"},
    "sweep": BELOW_VERBS | {"plan", "extract", "evaluate", "executors"},
    "matrix": BELOW_VERBS | {"attach", "adapters", "evaluate", "executors"},
    "share": BELOW_VERBS | {"adapters", "signing"},
    "report": BELOW_VERBS | {"adapters", "published"},
    "record": ARTIFACT,
    "cli": {"errors", "ranks"},
    "apart": BELOW_VERBS | {"record"},
    "logs": {"errors"},
    "bridge": {"errors", "evaluation", "logs"},
    "tools": BELOW_VERBS | {"collect"},
    "harness": BELOW_VERBS | {"attach", "collect", "bridge", "logs", "tools"},
}
"""Part of the house -> the parts that it may import when it is imported itself; a file of its own goes before its folder. Its own part is always free."""

INSIDE_FUNCTIONS: dict[str, set[str]] = {
    "__init__": {"extract", "attach", "evaluate", "matrix", "share", "sweep"},
    "extract": {"engine"},
    "attach": {"engine"},
    "collect": {"engine", "workers"},
    "evaluate": {"record", "apart"},
    "record": {"evaluation"},
    "harness": {"record"},
    "adapters": {"attach", "engine"},
    "imports": {"engine"},
    "sae_imports": {"engine"},
    "reproduce": {"evaluate"},
    "cli": {
        "extract",
        "attach",
        "evaluate",
        "collect",
        "matrix",
        "sizing",
        "bridge",
        "harness",
        "tools",
        "share",
        "record",
        "report",
        "sweep",
        "adapters",
        "compare",
    }
    | BELOW_VERBS
    | {"imports", "sae_imports", "reproduce"}
    | {"plan", "estimate", "lineage", "pins", "published"},
}
"""What each may import besides, once something is done (inside functions, or for the types alone)."""

NARROW: dict[tuple[str, str], set[str]] = {
    ("engine", "adapter"): {"adapter.files", "adapter.manifest", "adapter.compat"},  # never the store
    ("engine", "evaluation"): {"evaluation.samples"},  # the type of a sample, nothing else
}
"""Where a part may import a few modules of another only."""


class Import(NamedTuple):
    module: str
    """Dotted, relative to the package for our own (`adapter.files`), else the top name."""
    ours: bool
    top_level: bool
    line: int


def imports(source: str, path: str) -> Iterator[Import]:
    """Every import of the file at `path` below the package; those inside functions and under TYPE_CHECKING are not top-level."""
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
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and isinstance(node.args[0], ast.Constant):
            names = [str(node.args[0].value)]
        else:
            continue
        for name in names:
            ours = name == "resa_hub" or name.startswith("resa_hub.")
            yield Import(name.removeprefix("resa_hub").removeprefix(".") if ours else name.partition(".")[0], ours, top, node.lineno)


def _delays(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))


def part_of(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def violations(source: str, path: str) -> list[str]:
    """What the file breaks, one line each."""
    part, broken = part_of(path), []
    may = MAY[path] if path in MAY else MAY[part]
    for found in imports(source, path):
        where = f"{path}:{found.line} imports {found.module}"
        if not found.ours:
            if found.module in HEAVY and found.top_level and not path.startswith(HEAVY_FILES):
                broken.append(f"{where} at module level")
            continue
        other = found.module.partition(".")[0]
        if other == part:
            continue
        allowed = may | (set() if found.top_level else INSIDE_FUNCTIONS.get(part, set()))
        if other not in allowed:
            broken.append(where + (" at module level" if other in INSIDE_FUNCTIONS.get(part, set()) else ""))
        elif not any(f"{found.module}.".startswith(f"{module}.") for module in NARROW.get((part, other), {other})):
            broken.append(where)
    return broken


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def test_every_part_of_the_house_has_its_walls() -> None:
    assert {part_of(path) for path in FILES} == {key for key in MAY if "/" not in key}


@pytest.mark.parametrize("path", FILES)
def test_walls_hold(path: str) -> None:
    assert violations((PACKAGE / path).read_text(), path) == []


CAUGHT = [
    ("errors.py", "from .refs import Repo"),
    ("refs.py", "from . import recipe"),
    ("recipe.py", "from .registry import Registry"),
    ("adapter/store.py", "from .. import share"),
    ("adapter/files.py", "import numpy"),
    ("adapter/files.py", "from numpy import zeros"),
    ("adapter/files.py", "from ..engine.lora import merge"),
    ("adapter/store.py", "def f():\n    from ..remotes.folder import FolderRemote"),
    ("remotes/hub.py", "from ..engine import lora"),
    ("remotes/hub.py", "import resa_hub.cli.app"),
    ("remotes/hub.py", "try:\n    import huggingface_hub\nexcept ImportError: ..."),
    ("evaluation/statistics.py", "import scipy.stats"),
    ("evaluation/arms.py", "from ..evaluate import plan"),
    ("engine/sae/train.py", "from ...registry import Registry"),
    ("engine/sae/train.py", "def f():\n    from ...cli import output"),
    ("engine/lora.py", "from ..adapter.store import Store"),
    ("engine/lora.py", "from ..adapter import store"),
    ("engine/arms.py", "from ..evaluation.verdict import Verdict"),
    ("engine/tune/session.py", "from ...datasets import Rows"),
    ("extract.py", "from .engine.extraction import make"),
    ("extract.py", "class A:\n    from .engine import lora"),
    ("evaluate.py", "from . import cli"),
    ("cli/extract.py", "from .. import extract as verb"),
    ("cli/extract.py", "def f():\n    from ..engine.lora import merge"),
    ("cli/app.py", "from ..registry import Registry"),
    ("tiny/task.py", "import torch"),
    ("__init__.py", "from .extract import extract"),
]


@pytest.mark.parametrize(("path", "source"), CAUGHT)
def test_violation_is_caught(path: str, source: str) -> None:
    assert len(violations(source, path)) == 1


FREE = [
    ("adapter/files.py", "def f():\n    import numpy"),
    ("remotes/hub.py", "if TYPE_CHECKING:\n    from huggingface_hub import HfApi"),
    ("engine/lora.py", "import torch\nfrom ..adapter.files import CONFIG"),
    ("extract.py", "def f():\n    from .engine.extraction import make"),
    ("cli/extract.py", "from .output import Output\ndef f():\n    from .. import extract as verb"),
    ("tiny/train.py", "import torch\nfrom ..engine.lora import new_lora"),
]


@pytest.mark.parametrize(("path", "source"), FREE)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert violations(source, path) == []
