"""The Python functions and the types of what they return, from signatures, fields and docstrings."""

import ast
import inspect
import sys
from typing import Any

import resa_hub

from .markdown import block, prose, table
from .markdown import page as whole

ABOUT = """`import resa_hub` loads nothing heavy; each function is imported when it is first used. The keyword arguments
are the options of the [command line](cli.md), with the same defaults: `--new-tokens 64` is `new_tokens=64`. All
functions take `workspace`: the folder that holds `adapters/`, by default the nearest one. What can go wrong is a
`resa_hub.HubError` of the kinds in [exit codes](exit-codes.md). Results show themselves in notebooks."""

NUMBERS = """`Percent` and `Points` are numbers of those units, `Share` and `Probability` parts of 1, a `...Interval` or
`Bounds` is a pair of them: lower and upper bound."""
TYPES = (
    "adapter.store:Adapter",
    "adapter.manifest:Manifest",
    "adapter.results:EvaluationDocument",
    "adapter.results:Evaluation",
    "adapter.results:ArmResult",
    "adapter.results:Comparison",
    "adapter.results:Contrast",
    "adapter.results:Sweep",
    "adapter.results:SweepPoint",
    "adapter.diff:AdapterDiff",
    "adapter.fit:Fit",
    "inference.attach:Attached",
    "inference.attach:Proof",
    "evaluation.matrix:Matrix",
    "evaluation.matrix:Cell",
    "extraction.reproduce:Reproduced",
    "hub.remote:PushResult",
    "hub.remote:SearchHit",
    "hub.resolve:PullResult",
    "evaluation.plan:EvalSettings",
    "evaluation.sampling.engines:Engines",
    "core.progress:Progress",
    "core.notebook:Listing",
)
"""What functions return and take."""


def page() -> str:
    functions = [name for name in resa_hub.__all__ if inspect.isfunction(getattr(resa_hub, name))]
    types = [_type(place) for place in TYPES]
    return whole("Python", ABOUT, "## Functions", *map(_function, functions), "## Types", NUMBERS, *types)


def _function(name: str) -> str:
    function = inspect.unwrap(getattr(resa_hub, name))
    tree = _definition(function, ast.FunctionDef)
    return "\n\n".join([f"### {name}", block(_signature(name, tree), "python"), prose(inspect.getdoc(function) or "")])


def _definition(thing: Any, kind: type[ast.FunctionDef] | type[ast.ClassDef]) -> Any:
    """The syntax tree of a function or class."""
    module = ast.parse(inspect.getsource(sys.modules[thing.__module__]))
    return next(node for node in module.body if isinstance(node, kind) and node.name == thing.__name__)


def _signature(name: str, tree: ast.FunctionDef) -> str:
    """A parameter a line, as the source has it."""
    arguments = tree.args
    without = len(arguments.args) - len(arguments.defaults)
    lines = [_parameter(arg, None) for arg in arguments.args[:without]]
    lines += [_parameter(*pair) for pair in zip(arguments.args[without:], arguments.defaults, strict=True)]
    lines += ["*"] if arguments.kwonlyargs else []
    lines += [_parameter(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    body = "".join(f"    {line},\n" for line in lines)
    returns = ast.unparse(tree.returns) if tree.returns else "None"
    return f"{name}(\n{body}) -> {returns}"


def _parameter(arg: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(arg.annotation)}" if arg.annotation else ""
    return f"{arg.arg}{kind}" + (f" = {ast.unparse(default)}" if default else "")


def _type(place: str) -> str:
    module, _, name = place.partition(":")
    kind = getattr(__import__(f"resa_hub.{module}", fromlist=[name]), name)
    tree = _definition(kind, ast.ClassDef)
    above = [ast.unparse(base) for base in tree.bases if ast.unparse(base) in {row.partition(":")[2] for row in TYPES}]
    first = f"`resa_hub.{module}.{name}`" + (f", with the fields of `{above[0]}` and these." if above else ".")
    told = ast.get_docstring(tree)
    rows = _fields(tree)
    listed = table(["field", "type", "meaning"], rows) if rows else ""
    return "\n\n".join(filter(None, [f"### {name}", first, prose(told or ""), listed]))


def _fields(tree: ast.ClassDef) -> list[list[str]]:
    """Field, type, and the text that stands below it; then properties and methods with a docstring."""
    rows = []
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kind = ast.unparse(node.annotation).strip("'\"")
            if not kind.startswith("ClassVar"):
                rows.append([f"`{node.target.id.rstrip('_')}`", _kind(kind), prose(_text(after))])
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and ast.get_docstring(node):
            returns = _kind(ast.unparse(node.returns)) if node.returns else ""
            called = "" if node.decorator_list and ast.unparse(node.decorator_list[0]) == "property" else "()"
            rows.append([f"`{node.name}{called}`", returns, prose(ast.get_docstring(node) or "")])
    return rows


def _kind(annotation: str) -> str:
    """`str or None`: a bar between backticks ends the cell of a table for some readers of Markdown."""
    return f"`{annotation.replace(' | ', ' or ')}`"


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""
