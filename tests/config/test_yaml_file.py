"""Files that people write: a mistake is told with its own line, whatever kind it is."""

from pathlib import Path

import pytest

from resa_hub.config.registry import Registry
from resa_hub.config.yaml_file import read_yaml
from resa_hub.core.errors import NotFound, Usage
from resa_hub.extraction.plan import plan
from tests.helpers.registries import user as user


def reading(folder: Path, text: str) -> Registry:
    (folder / "registry.yaml").write_text(text, encoding="utf-8")
    return Registry(folder)


@pytest.mark.parametrize(
    ("text", "line", "said", "hint"),
    [
        ("models:\n  a: {id: o/n\n  b: {id: y}\n", 3, "flow mapping opened in line 2", "mend"),
        ("models:\n  a: {id: [x\n", 2, "flow sequence that is not closed", "mend"),
        ("# mine\n\nmodels:\n  a: 'x\n  b: y\n", 4, "quoted scalar that is not closed", "mend"),
        ("models:\n\ta: x\n", 2, "a tab; indent with blanks", "mend"),
        ("models:\n  a: {id: o/n}\n   b: {id: o/n}\n", 3, "not valid YAML", "mend"),
        ("models:\n\n  a: {id: o/n, revision: 2025-99-99}\n", 3, "month", "quotes"),
        ("models: {}\npublished:\n  a: {source: '.inf', average: -.INF}\n", 3, "-.INF is not a finite number", "mend"),
        ("models: {}\nmodls: {}\n", 2, "unknown section 'modls'", "did you mean models?"),
        ("models: {}\nsaes: [a]\n", 2, "saes is a mapping of name to entry", "registry"),
        ("models:\n  a: {id: o/n}\n  1: {id: o/n}\n", 3, "the name 1 in models", "quotes"),
        ("models:\n  yes: {id: o/n}\n", 2, "the name True in models", "quotes"),
        ("models:\n  a:\n    id: o/n\n    idd: 3\n", 4, "models.a.idd is no known field", "did you mean id?"),
        ("models:\n  a:\n    id:\n      - x\n", 3, "models.a.id must be text or null", "mend"),
        ("models:\n  a:\n    adapter: {idd: x}\n", 3, "models.a.adapter.idd is no known", "did you mean adapter.id?"),
        ("saes:\n\n  a:\n    id: o/n\n", 3, "saes.a.format is missing", "mend"),
        ("published:\n  a:\n    source: s\n    scores:\n      x: 3\n      y: high\n", 6, "a.scores.y must be", "mend"),
        ("models:\n  a: &x {id: o/n, nots: 3}\n", 2, "models.a.nots is no known field", "did you mean note?"),
    ],
)
def test_a_mistake_in_a_registry_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, said: str, hint: str
) -> None:
    with pytest.raises(Usage) as caught:
        _ = reading(tmp_path, text).entries
    assert caught.value.message.startswith(f"{tmp_path / 'registry.yaml'}, line {line}: ")
    assert said in caught.value.message and hint in caught.value.hint


MISTAKES = [
    ("training:\n  lr: 3\n", 2, "training.lr is no known field", "did you mean training.learning_rate?"),
    ("sae:\n  k: 0\n", 2, "sae.k must be a whole number of at least 1, not 0", "mend"),
    ("sae: {}\nlora:\n  modules:\n    - q_proj\n    - 3\n", 5, "lora.modules.1 must be text, not 3", "mend"),
    ("trainig: {}\n", 1, "trainig is no known field", "did you mean training?"),
    ("training: 3\n", 1, "training must be a mapping, not 3", "mend"),
    ("dtype: half\n", 1, "dtype must be float32 or bfloat16, not the text 'half'", "mend"),
    ("lik: tiny-sft\n", 1, "lik is no known field", "did you mean like?"),
]


@pytest.mark.parametrize(("text", "line", "said", "hint"), MISTAKES)
def test_a_mistake_in_a_recipe_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, said: str, hint: str
) -> None:
    """In a file of its own, and in the registry of a workspace."""
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(Usage) as caught:
        plan(recipe=str(file), registry=Registry(tmp_path))
    assert caught.value.message == f"{file}, line {line}: {said}" and hint in caught.value.hint
    inside = "".join(f"    {part}\n" for part in text.splitlines())
    known = reading(tmp_path, f"models: {{}}\nrecipes:\n  mine:\n{inside}")
    with pytest.raises(Usage) as caught:
        plan(recipe="mine", registry=known)
    assert caught.value.message == f"{tmp_path / 'registry.yaml'}, line {line + 3}: recipes.mine.{said}"


def test_of_equal_keys_the_last_counts_and_an_anchor_leads_to_its_own_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: {b: 1}\nc: &x\n  d: 1\na: {b: 2}\ne: *x\nf: {<<: *x, g: 3}\n")
    file = read_yaml(path)
    lines = {"a.b": 4, "c.d": 3, "e.d": 3, "f.g": 6, "f.d": 6, "nothing": None}
    assert {keys: file.line(keys.split(".")) for keys in lines} == lines
    assert file.content["f"] == {"d": 1, "g": 3}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        read_yaml(tmp_path / "x.yaml")
