"""What of a folder or repository is fetched, and what is said where it holds something else."""

from pathlib import Path

import pytest

from resa_hub.config.refs import Repo
from resa_hub.core.errors import HubError, NotFound, Usage
from resa_hub.data.at_hand import at_hand
from resa_hub.data.small_files import check_files, check_kind
from resa_hub.data.snapshots import needed_files

LISTED = [
    "config.json",
    "generation_config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "chat_template.jinja",
    "merges.txt",
    "README.md",
    "pytorch_model.bin",
    "figures/benchmark.json",
    "checkpoint-500/config.json",
    "checkpoint-500/model.safetensors",
    "original/consolidated.safetensors",
]
TINA = ["README.md", *(f"checkpoint-{n}/adapter_config.json" for n in (2000, 500, 1000)), "logs/a.json"]


def test_files_of_other_folders_are_not_fetched() -> None:
    assert needed_files(LISTED, "model") == LISTED[:8]
    trained = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.pt",
        "tokenizer.json",
        "trainer_state.json",
    ]
    assert needed_files([*trained, "checkpoint-1/adapter_model.safetensors"], "adapter") == trained[:2]


def told(repo: str, paths: list[str], what: str, whole: list[str] | None = None) -> HubError:
    with pytest.raises(HubError) as caught:
        check_files(Repo.parse(repo), paths, what, whole or [])
    return caught.value


def test_what_lies_in_folders_below_is_named() -> None:
    error = told("owner/name@main", TINA, "adapter")
    assert type(error) is NotFound and "owner/name@main holds no PEFT adapter" in error.message
    assert error.hint == (
        "it lies in checkpoint-500, checkpoint-1000, checkpoint-2000: name one, as owner/name@main:checkpoint-2000"
    )
    assert told("owner/name:gone", [], "adapter", TINA).hint == error.hint.replace("@main", "")
    nested = told("owner/name:runs", ["a/adapter_config.json"], "adapter", ["runs/a/adapter_config.json"])
    assert nested.hint.endswith("in a: name one, as owner/name:runs/a")
    assert "config.json" in told("owner/name", TINA, "model").message
    many = told("owner/name", [f"step-{n}/config.json" for n in range(30)], "model")
    assert (
        many.hint == "it lies in step-0, step-1, step-2, step-3, step-4, step-5, ...: name one, as owner/name:step-29"
    )
    assert type(told("owner/name", ["adapter_config.json"], "model")) is Usage
    assert "pickles" in told("owner/name", ["adapter_config.json", "adapter_model.bin"], "adapter").hint


def test_a_local_folder_names_its_folders_too(tmp_path: Path) -> None:
    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "adapter_config.json").write_text("{}")
    with pytest.raises(NotFound) as caught:
        check_kind(Repo(str(tmp_path)), tmp_path, "adapter")
    assert caught.value.hint == f"it lies in checkpoint-5, checkpoint-10: name one, as {tmp_path}/checkpoint-10"


def test_a_download_that_was_interrupted_is_not_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repository, commit = tmp_path / "models--owner--name", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)

    def arrives(name: str, content: str = "{}") -> None:
        (repository / "blobs" / name).write_text(content)
        (snapshot / name).symlink_to(f"../../blobs/{name}")

    repo = Repo("owner/name")
    arrives("config.json")
    assert at_hand(repo) is None
    arrives("model.safetensors.index.json", '{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    arrives("1.safetensors")
    assert at_hand(repo) is None
    arrives("2.safetensors")
    files = at_hand(repo)
    assert files and files.folder == snapshot and files.revision == commit and files.config == {}
