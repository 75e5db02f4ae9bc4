"""What is wrong with a value that a person wrote, in words: the key, what stands there, and what may stand there."""

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from .suggest import did_you_mean_key

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "a mapping",
    "array": "a list",
}
BOUNDS = {">=": "of at least", "<=": "of at most", "<": "below", ">": "above"}
UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")
MISSING = re.compile(r"Object missing required field `(.*?)`")
EXPECTED = re.compile(r"Expected `([^`]*)`(?: ([<>]=?) (\S+))?")
PLACE = re.compile(r" - at (?:`key` in )?`\$(.*)`$")

Keys = tuple[str, ...]


class Mistake(NamedTuple):
    keys: Keys
    """Where it stands, from the outermost key."""
    problem: str
    """To be said of the key: `must be a whole number, not the text 'x'`."""
    hint: str = ""

    def __str__(self) -> str:
        return f"{'.'.join(self.keys) or 'it'} {self.problem}"


def first_mistake(value: Any, kind: Any, *, partial: bool = False) -> Mistake | None:
    """The first thing for which `value` is no `kind`, None where there is none.

    partial: structs may lack required fields, as a recipe may that is merged with others.
    """
    if partial and _struct(kind) and isinstance(value, Mapping):
        return _first_of_fields(value, _struct(kind), ())
    try:
        msgspec.convert(value, kind)
    except (msgspec.ValidationError, TypeError) as error:
        return explained(str(error), value, kind)
    return None


def key_paths(struct: Any) -> Iterator[str]:
    """The dotted keys of all fields of a struct and of the structs in it."""
    for field in msgspec.structs.fields(struct):
        yield field.name
        if inner := _struct(field.type):
            yield from (f"{field.name}.{path}" for path in key_paths(inner))


def _first_of_fields(value: Mapping[Any, Any], struct: Any, keys: Keys) -> Mistake | None:
    kinds = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for name, part in value.items():
        here = (*keys, str(name))
        if name not in kinds:
            return _unknown(here, struct)
        if _struct(kinds[name]) and isinstance(part, Mapping):
            found = _first_of_fields(part, _struct(kinds[name]), here)
        else:
            inner = first_mistake(part, kinds[name])
            found = inner and inner._replace(keys=(*here, *inner.keys))
        if found:
            return found
    return None


def explained(message: str, value: Any, kind: Any) -> Mistake:
    """What the message of msgspec says, that `value` is no `kind`, in words."""
    place = PLACE.search(message)
    keys = tuple(re.findall(r"\.{3}|[^.\[\]]+", place[1])) if place else ()
    keys = _without_ellipsis(keys, value, kind)
    here = _type_at(kind, keys)
    if match := UNKNOWN.match(message):
        return _unknown((*keys, match[1]), _struct(here))
    if match := MISSING.match(message):
        return Mistake((*keys, match[1]), "is missing")
    if "at `key` in" in message:
        return Mistake(keys, "must have keys that are text")
    stands = _shown(_value_at(value, keys))
    if message.startswith("Invalid enum value"):
        return Mistake(keys, f"must be {_any_of(_literals(here))}, not {stands}")
    if match := EXPECTED.match(message):
        return Mistake(keys, f"must be {_expected(match)}, not {stands}")
    return Mistake(keys, f"cannot be read: {message}")


def _unknown(keys: Keys, struct: Any) -> Mistake:
    """Of a field that this struct does not have."""
    known = [".".join((*keys[:-1], path)) for path in key_paths(struct)]
    return Mistake(keys, "is no known field", did_you_mean_key(".".join(keys), known))


def _without_ellipsis(keys: Keys, value: Any, kind: Any) -> Keys:
    """The keys with the first wrong one in place of `...`, by which msgspec names any value of a mapping."""
    if "..." not in keys:
        return keys
    outer = keys[: keys.index("...")]
    inside = get_args(_type_at(kind, outer))[-1]
    entries: Mapping[Any, Any] = _value_at(value, outer)
    return (*outer, next(str(key) for key, part in entries.items() if first_mistake(part, inside)))


def _expected(match: re.Match[str]) -> str:
    """`int | null` and `int >= 1` in words."""
    kinds = _any_of([TYPES.get(kind, kind) for kind in match[1].split(" | ")])
    return f"{kinds} {BOUNDS[match[2]]} {float(match[3]):g}" if match[2] else kinds


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    return "a mapping" if isinstance(value, Mapping) else str(value)


def _any_of(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _value_at(value: Any, keys: Keys) -> Any:
    for key in keys:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list | tuple) and key.isdigit():
            value = value[int(key)]
    return value


def _type_at(kind: Any, keys: Keys) -> Any:
    for key in keys:
        fields = msgspec.structs.fields(_struct(kind)) if _struct(kind) else ()
        kind = next((field.type for field in fields if field.name == key), kind)
    return kind


def _struct(kind: Any) -> Any:
    """The struct that a type is, or may be; None for another type."""
    return next((part for part in _parts(kind) if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)


def _literals(kind: Any) -> list[str]:
    return [str(word) for part in _parts(kind) if get_origin(part) is Literal for word in get_args(part)]


def _parts(kind: Any) -> list[Any]:
    """The members of a union, without what annotates them."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _parts(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return [inner for part in get_args(kind) for inner in _parts(part)]
    return [kind]
