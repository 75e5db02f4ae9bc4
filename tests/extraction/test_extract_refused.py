"""What an extraction refuses, each with one typed error and the next step."""

from pathlib import Path
from typing import Any

import pytest

from resa_hub.core.errors import DoesNotFit, HubError, NoEffect, NotFound, RunFailed, Usage
from resa_hub.core.progress import Progress
from resa_hub.extraction.extract import extract
from tests.extraction.test_extract import left_in, quick


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "choices", "settings"),
    [
        (Usage, {"layer": 9}, []),
        (Usage, {"target": "tina-tiny"}, []),  # one artifact, one base
        (Usage, {"layer": -1}, []),
        (Usage, {"method": "sae-tuning", "layer": 3}, []),
        (Usage, {"method": "telepathy"}, []),
        (Usage, {}, ["hookpoint=layers.1.mlp"]),
        (Usage, {"method": "pca-diff"}, ["hookpoint=layers.1.mlp"]),
        (Usage, {}, ["training.learning_rate=.nan"]),
        (Usage, {}, ["training.learning_rat=1"]),
        (Usage, {}, ["training.learning_rate"]),
        (Usage, {}, ["training.gradient_clip=-1"]),
        (Usage, {}, ["training.epochs=0"]),
        (Usage, {}, ["training.batch_rows=0"]),
        (Usage, {}, ["rollouts.count=0"]),
        (Usage, {}, ["rollouts.new_tokens=0"]),
        (Usage, {}, ["rollouts.temperature=-1"]),
        (Usage, {}, ["sae.batch_tokens=0"]),
        (Usage, {}, ["sae.k=300"]),
        (Usage, {}, ["sae.mode=finetuned"]),
        (Usage, {}, ["features=0"]),
        (DoesNotFit, {}, ["lora.modules=[dense]"]),
        (Usage, {}, ["elicit.rows=-5"]),
        (Usage, {"method": "random-features"}, ["features=120"]),
        (Usage, {"name": "../escape"}, []),
        (NotFound, {"recipe": "tiny-nothing"}, []),
        (NotFound, {"recipe": "./missing.yaml"}, []),
        (NotFound, {"target": "tiny-r2"}, []),
        (NotFound, {"trigger": "no-such-data"}, []),
        (NotFound, {"elicit": "./missing.jsonl"}, []),
        (RunFailed, {}, ["training.learning_rate=1e30"]),
        (RunFailed, {}, ["sae.learning_rate=1e30"]),
        (RunFailed, {"method": "sae-tuning"}, ["training.chunk_tokens=100000"]),
        (NotFound, {}, ["sae.mode=pretrained", "sae.origin=/nowhere"]),
        (NoEffect, {}, ["training.learning_rate=1e-60"]),
        (Usage, {}, ["training.learning_rate=0"]),
        (Usage, {}, ["scale=0"]),
    ],
    ids=lambda value: (
        " ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
        if isinstance(value, dict)
        else value.__name__
    ),
)
def test_a_mistake_gets_one_typed_error_with_the_next_step(
    tmp_path: Path, kind: type[HubError], choices: dict[str, Any], settings: list[str]
) -> None:
    with pytest.raises(HubError) as caught:
        quick(tmp_path, settings=["rollouts.count=32", *settings], **choices)
    assert type(caught.value) is kind and caught.value.hint and caught.value.message
    assert left_in(tmp_path) == []


def test_an_unknown_source_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        quick(tmp_path, "tina-tinny")
    assert "tina-tiny" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("method", ["feature-diff", "random-features", "pca-diff", "logit-distill"])
def test_a_source_that_is_its_own_target_teaches_nothing(tmp_path: Path, method: str) -> None:
    with pytest.raises(NoEffect) as caught:
        quick(tmp_path, "tiny-r1", recipe="tiny-feature-diff", method=method, settings=["rollouts.count=32"])
    assert caught.value.exit_code == 9 and left_in(tmp_path) == []


def test_a_target_of_other_shapes_does_not_fit(tmp_path: Path) -> None:
    from tests.helpers.models import random_model

    random_model("qwen2", vocab_size=32).save_pretrained(tmp_path / "other")
    with pytest.raises(DoesNotFit) as caught:
        quick(tmp_path, target=str(tmp_path / "other"))
    assert caught.value.exit_code == 4 and "hidden_size" in caught.value.message and left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("sae: {k: 16\nfeatures: [", Usage, "line"),
        ("- a list", Usage, "mapping"),
        ("like: tiny-feature-diff\nfeaturs: 3", Usage, "featurs"),
        ("like: tiny-feature-diff\nfeatures: many", Usage, "features"),
        ("like: tiny-nothing\n", NotFound, "tiny-nothing"),
        ("method: feature-diff\n", Usage, "source"),
        ("like: [1, 2]\n", Usage, "like"),
        ("", Usage, "mapping"),
    ],
)
def test_a_broken_recipe_file_says_what_is_wrong(tmp_path: Path, text: str, kind: type[HubError], said: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(HubError) as caught:
        extract(recipe=str(tmp_path / "mine.yaml"), workspace=tmp_path, progress=Progress(quiet=True))
    assert type(caught.value) is kind and said in caught.value.message


def test_a_store_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "adapters").write_text("a file, not a folder")
    with pytest.raises(RunFailed, match="cannot write"):
        quick(tmp_path)
