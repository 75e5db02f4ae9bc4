"""Texts, paths and flags of the command line without pydantic, which Typer would load (0.1 s of CPU) to leave them as
they are: `list` and `show` have no other values.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from typer._coercion import RuntimeParam
from typer.core import TyperArgument, TyperOption


@dataclass(frozen=True)
class TextParam(RuntimeParam):
    """A text, a path, a flag, or a list of them."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        make: Callable[[Any], Any] = _kind(self.annotation)
        return [make(one) for one in value] if isinstance(value, list | tuple) else make(value)


def keep_texts(params: Iterable[Any]) -> None:
    """Let Typer convert those of `params` by `TextParam` for which that says the same."""
    for param in params:
        if isinstance(param, TyperArgument | TyperOption):
            described = param.type_descriptor
            if _kind(described.annotation) in {str, Path, bool}:
                param._runtime_param = TextParam(described.parameter_info, described.annotation)


def _kind(annotation: Any) -> Any:
    """What an optional value, or a value of a list, is."""
    if isinstance(annotation, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return get_args(annotation)[0] if get_origin(annotation) is list else annotation
