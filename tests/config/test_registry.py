"""The registry: layers win in order, mistakes are named, names are looked up."""

import subprocess
import sys
from pathlib import Path

import pytest

from resa_hub.config.refs import ModelRef, Repo
from resa_hub.config.registry import Registry, builtin_path
from resa_hub.config.schema import Dataset
from resa_hub.core.errors import NotFound, Usage
from tests.helpers.registries import builtin
from tests.helpers.registries import user as user


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def reading(workspace: Path, text: str) -> Registry:
    (workspace / "registry.yaml").write_text(text, encoding="utf-8")
    return Registry(workspace)


# --- layers


def test_later_layers_win(user: Path, workspace: Path) -> None:
    user.write_text("models: {tiny-r1: {id: user/r1}, tiny-r1b: {id: user/r1b}, mine: {id: user/mine}}")
    found = reading(workspace, "models: {tiny-r1: {id: work/r1}, ours: {id: work/ours}}")
    layers = {
        name: (found.entries["models"][name].layer, str(found.model(name)))
        for name in ("tiny-base", "tiny-r1", "tiny-r1b", "mine", "ours")
    }
    assert layers == {
        "tiny-base": ("built-in", "resa-hub/tiny-base"),
        "tiny-r1": ("workspace", "work/r1"),
        "tiny-r1b": ("user", "user/r1b"),
        "mine": ("user", "user/mine"),
        "ours": ("workspace", "work/ours"),
    }


def test_a_layered_base_carries_through(workspace: Path) -> None:
    """An adapter stands on a name, so a workspace that replaces the name moves the adapter with it."""
    assert reading(workspace, "models: {tiny-r1: {id: work/r1, revision: abc}}").model("tina-tiny") == ModelRef(
        Repo("work/r1", "abc"), Repo("resa-hub/tina-tiny")
    )


def test_layers_that_are_not_there_are_not_missed(workspace: Path) -> None:
    assert [name for name, _ in Registry(workspace).layers] == ["built-in"]


def test_a_clone_does_not_read_its_root_twice(user: Path, tmp_path: Path) -> None:
    user.write_text("")
    link = tmp_path / "link"
    link.symlink_to(builtin_path().parent)
    for root in (builtin_path().parent, link):
        assert [name for name, _ in Registry(root).layers] == ["built-in", "user"]


def test_remotes_and_settings_are_texts(workspace: Path) -> None:
    found = reading(workspace, "remotes: {lab: 'folder:/srv/hub'}\nsettings: {remote: lab}")
    assert (found.get("remotes", "lab"), found.get("settings", "remote")) == ("folder:/srv/hub", "lab")


# --- mistakes


def test_broken_yaml_names_file_and_line(workspace: Path) -> None:
    with pytest.raises(Usage) as caught:
        _ = reading(workspace, "models:\n  a: {id: o/n}\n  b: {id: o/n\nsaes: {}\n").entries
    assert f"{workspace / 'registry.yaml'}, line 4" in caught.value.message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("modles: {}", "modles"),
        ("models: [a]", "models"),
        ("- a", "registry.yaml"),
        ("models: {a: {id: o/n, revison: x}}", "line 1: models.a.revison is no known field"),
        ("models: {a: {id: 3}}", "models.a"),
        ("models: {a: null}", "models.a"),
        ("models: {1: {id: o/n}}", "name 1 in models"),
        ("models: {a: {id: o/n, revision: 2025-99-99}}", "not valid YAML"),
        ("saes: {a: {id: o/n}}", "line 1: saes.a.format is missing"),
        ("benchmarks: {a: {id: o/n, problems: many}}", "benchmarks.a"),
        ("published: {a: {source: s, scores: {aime24: high}}}", "published.a"),
        ("recipes: {a: text}", "recipes.a"),
        ("remotes: {a: {b: c}}", "remotes.a"),
        ("models: \x01", "not valid YAML"),
    ],
)
def test_a_mistake_is_a_usage_error_that_names_it(workspace: Path, text: str, named: str) -> None:
    with pytest.raises(Usage) as caught:
        _ = reading(workspace, text).entries
    assert named in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_not_text(workspace: Path) -> None:
    (workspace / "registry.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Usage, match="cannot read"):
        _ = Registry(workspace).entries


def test_unknown_section_suggests_the_nearest(workspace: Path) -> None:
    with pytest.raises(Usage) as caught:
        _ = reading(workspace, "modles: {}").entries
    assert caught.value.hint == "did you mean models?"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("recipes: {a: {like: b}, b: {like: c}, c: {like: a}}", "a -> b -> c -> a"),
        ("recipes: {a: {like: a}}", "a -> a"),
        ("recipes: {a: {like: [b]}}", "line 1: recipes.a.like must be text or null"),
        ("recipes: {a: {like: tiny-sae-tuning, sede: 1}}", "line 1: recipes.a.sede is no known field"),
        ("recipes: {a: {source: x}}", "recipe a: target is missing"),
    ],
)
def test_recipes_that_cannot_be(workspace: Path, text: str, named: str) -> None:
    with pytest.raises(Usage) as caught:
        reading(workspace, text).recipe("a")
    assert named in caught.value.message


@pytest.mark.parametrize(
    "models",
    [
        "{a: {base: b, adapter: {id: o/a}}, b: {base: a, adapter: {id: o/b}}}",
        "{a: {base: tina-still, adapter: {id: o/a}}}",
        "{a: {base: b, adapter: {id: o/a}}, b: {id: o/n, adapter: {id: o/b}}}",
        "{a: {base: tiny-r1}}",
        "{a: {note: nothing}}",
    ],
)
def test_models_that_cannot_be(workspace: Path, models: str) -> None:
    with pytest.raises(Usage, match="'a'"):
        reading(workspace, f"models: {models}").model("a")


def test_like_merges_part_by_part(workspace: Path) -> None:
    mine = reading(
        workspace, "recipes: {mine: {like: tiny-feature-diff, note: x, training: {epochs: 8}, rollouts: null}}"
    ).recipe("mine")
    theirs = builtin().recipe("tiny-feature-diff")
    assert (mine.training.epochs, mine.training.learning_rate, mine.rollouts) == (
        8,
        theirs.training.learning_rate,
        None,
    )
    assert (mine.method, mine.sae) == (theirs.method, theirs.sae)


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("models", "tina-stil", "did you mean tina-still?"),
        ("recipes", "resa-still-v9", "did you mean resa-still-v"),
        ("benchmarks", "aime2024", "did you mean aime24?"),
        ("datasets", "zzz", "known: "),
    ],
)
def test_unknown_names_suggest_the_nearest(kind: str, name: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        builtin().get(kind, name)
    assert repr(name) in caught.value.message
    assert caught.value.hint.startswith(hint)


# --- lookups


def test_a_model_is_a_name_or_a_reference() -> None:
    assert builtin().model("o/n@abc+a/b:sub") == ModelRef(Repo("o/n", "abc"), Repo("a/b", None, "sub"))
    assert builtin().model("./folder") == ModelRef(Repo("./folder"))
    with pytest.raises(NotFound, match="no model"):
        builtin().model("nobody")


def test_bases_by_name_and_id() -> None:
    found = builtin()
    assert (found.base_name("tina-still"), found.base_name("tiny-r1"), found.base_name("o/n+a/b")) == (
        "r1-distill-1.5b",
        "tiny-r1",
        "o/n",
    )
    assert (found.name_of_base("Qwen/Qwen2.5-1.5B"), found.name_of_base("o/n")) == ("qwen-1.5b", "o/n")


def test_a_data_set_is_a_name_an_id_or_a_file() -> None:
    found = builtin()
    assert (found.dataset("still").question, found.dataset("still").answer) == ("question", None)
    assert found.dataset("ii-thought").answer == "verification_info.answer.value"
    assert found.dataset("o/n@abc#test") == Dataset(id="o/n", revision="abc", split="test")
    assert found.dataset("rows.jsonl") == Dataset(id="rows.jsonl")
    assert found.dataset("./rows.jsonl:question=prompt,answer=a.b") == Dataset(
        id="./rows.jsonl", question="prompt", answer="a.b"
    )
    assert found.dataset("o/n#test:answer=target") == Dataset(id="o/n", split="test", answer="target")
    assert found.dataset("deepscaler:solution=trace").solution == "trace"
    with pytest.raises(Usage, match="'gold' is no part of a data set"):
        found.dataset("rows.csv:gold=target")
    with pytest.raises(NotFound, match="no dataset"):
        found.dataset("stil")


def test_reading_the_registry_stays_light() -> None:
    code = (
        "import sys; from resa_hub.config.registry import Registry; Registry().recipe('resa-still-v1'); "
        "print(*{m.partition('.')[0] for m in sys.modules})"
    )
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert "yaml" in loaded
    assert not loaded & {
        "torch",
        "transformers",
        "peft",
        "sae_lens",
        "vllm",
        "datasets",
        "huggingface_hub",
        "numpy",
        "scipy",
        "pandas",
        "rich",
    }
