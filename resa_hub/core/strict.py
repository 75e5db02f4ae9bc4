"""Strict data: msgspec structs that refuse unknown fields, and the canonical JSON that digests are taken of."""

import hashlib
import json
from typing import Any

import msgspec

from .errors import Usage


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything read from people or strangers: unknown keys and wrong types are errors."""


def non_default_values(value: Any) -> Any:
    """A struct as plain values, without what equals a default.

    So a field that is added later with the old behaviour as its default changes no digest.
    """
    if not isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    given = ((field, getattr(value, field.name)) for field in msgspec.structs.fields(value))
    return {
        field.name: non_default_values(part)
        for field, part in given
        if field.default is msgspec.NODEFAULT or part != field.default
    }


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no blanks, UTF-8, no NaN: the same value has the same bytes everywhere."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def canonical_digest(value: Any) -> str:
    """`sha256:` and the hash of the canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def structure(value: Any, kind: Any, where: str, hint: str = "mend that value") -> Any:
    """`value` as `kind`; raises `Usage` naming `where` and the offending key, with this hint where there is no nearer
    one.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, TypeError) as error:
        from .schema_errors import explained

        found = explained(str(error), value, kind)
        raise Usage(f"{where}: {found}", found.hint or hint) from None
