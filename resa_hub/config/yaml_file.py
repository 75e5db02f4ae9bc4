"""YAML files that people write: read safely, their mistakes told with the line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..core.errors import NotFound, Usage
from ..core.schema_errors import Mistake

NOT_FINITE = re.compile(r"\.(inf|nan)\b", re.IGNORECASE)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
OPENED = ("flow mapping", "flow sequence", "quoted scalar")
"""What YAML names as the surroundings of a mistake where something was opened and not closed."""


class YamlFile(NamedTuple):
    path: Path
    text: str
    content: Any
    """None of an empty file."""

    def line(self, keys: Sequence[Any]) -> int | None:
        """The line, counted from 1, of the entry under these keys, or of the innermost that is there; None for none."""
        node, line = yaml.compose(self.text, LOADER), None
        for key in keys:
            found = _entry(node, key)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return line

    def place(self, keys: Sequence[Any] = ()) -> str:
        """`registry.yaml, line 12`."""
        line = self.line(keys)
        return f"{self.path}, line {line}" if line else str(self.path)

    def refuse(self, found: Mistake, keys: Sequence[str] = ()) -> Usage:
        """The error of a mistake in the entry under `keys`."""
        whole = (*keys, *found.keys)
        named = found._replace(keys=whole)
        return Usage(f"{self.place(whole)}: {named}", found.hint or "mend that line")


def read_yaml(path: Path) -> YamlFile:
    """Raises `NotFound`, and `Usage` with the line of a mistake."""
    if not path.exists():
        raise NotFound(f"there is no file {path}", "check the path")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"cannot read {path}: {error}", "make it a readable UTF-8 file, or move it away") from None
    try:
        _check_finite(path, text)
        return YamlFile(path, text, yaml.load(text, LOADER))
    except yaml.YAMLError as error:
        place, problem = _syntax_error(error, text.splitlines())
        raise Usage(f"{path}{place}: not valid YAML: {problem}", "mend that line") from None
    except ValueError as error:  # a date such as 2025-99-99
        line = next((node.start_mark.line + 1 for node in _scalars(yaml.compose(text, LOADER)) if _fails(node)), None)
        raise Usage(
            f"{path}{f', line {line}' if line else ''}: not valid YAML: {error}", "put it in quotes, or mend it"
        ) from None


def _check_finite(path: Path, text: str) -> None:
    """Raise `Usage` for .inf and .nan: no number of ours may be one."""
    if not NOT_FINITE.search(text):
        return
    for node in _scalars(yaml.compose(text, LOADER)):
        if node.tag == "tag:yaml.org,2002:float" and NOT_FINITE.search(node.value):
            place = f"{path}, line {node.start_mark.line + 1}"
            raise Usage(f"{place}: {node.value} is not a finite number", "mend that line")


def _syntax_error(error: yaml.YAMLError, lines: list[str]) -> tuple[str, str]:
    """(`, line N`, what is wrong there). What was never closed shows at the end of the file: then N is where it
    begins.
    """
    mark, context = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return "", problem
    surroundings = str(getattr(error, "context", None) or "")
    begun = ""
    if context is not None and context.line != mark.line and surroundings.endswith(OPENED):
        what = surroundings.rpartition(" a ")[2]
        if mark.line >= len(lines):
            return f", line {context.line + 1}", f"{what} that is not closed"
        begun = f" ({what} opened in line {context.line + 1})"
    number = min(mark.line, max(len(lines) - 1, 0))
    if lines and lines[number][: mark.column + 1].isspace() and "\t" in lines[number][: mark.column + 1]:
        problem = "a tab; indent with blanks"
    return f", line {number + 1}", f"{problem}{begun}"


def _entry(node: Any, key: Any) -> tuple[Any, Any] | None:
    """(key, value) of a mapping; of equal keys the last, which counts; a list's part stands for its own key."""
    if isinstance(node, yaml.SequenceNode):
        part = node.value[int(key)] if str(key).isdigit() and int(key) < len(node.value) else None
        return (part, part) if part else None
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((pair for pair in reversed(pairs) if _same(pair[0], key)), None)


def _same(node: Any, key: Any) -> bool:
    """Whether a node is read as this key; one that is no text is written in several ways."""
    if not isinstance(node, yaml.ScalarNode):
        return False
    return node.value == key if isinstance(key, str) else yaml.safe_load(node.value) == key


def _scalars(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.CollectionNode):
        for part in node.value:
            for inner in part if isinstance(part, tuple) else (part,):
                yield from _scalars(inner)


def _fails(node: Any) -> bool:
    try:
        yaml.safe_load(node.value)
    except ValueError:
        return True
    except yaml.YAMLError:
        return False
    return False
