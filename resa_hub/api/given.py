"""Which keyword arguments a caller wrote: what is written beats a preset, even where it equals the default."""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_WRITTEN: ContextVar[frozenset[str]] = ContextVar("_WRITTEN", default=frozenset())


def knows_given(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, in which `given` works."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        _check_names(function, kwargs)
        token = _WRITTEN.set(frozenset(kwargs))
        try:
            return function(*args, **kwargs)
        finally:
            _WRITTEN.reset(token)

    return call


def _check_names(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Raise `TypeError`, as a call does, with the nearest name of the keywords that there are."""
    known = inspect.signature(function).parameters
    for name in kwargs:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}{meant}")


def given(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Of these values, as `locals()`, those of the keywords `names` that the caller wrote."""
    return {name: values[name] for name in names if name in _WRITTEN.get() and name in values}
