"""Attaching: which adapter, does it fit, did it take effect, and what the model says with it."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from resa_hub.adapter.layout import CONFIG, MANIFEST, WEIGHTS
from resa_hub.adapter.store import Adapter, Store
from resa_hub.config.refs import AdapterRef
from resa_hub.core.errors import DoesNotFit, HubError, Integrity, NoEffect, NotFound, Usage
from resa_hub.core.progress import Progress
from resa_hub.extraction.extract import extract
from resa_hub.inference.attach import FLOOR_SHARE, TOLERANCE, Attached, attach
from tests.helpers.adapters import kl_of

NAME = "tina-tiny-feature-diff-l2"
PROMPT = "7*7-8+6-4="


def copy_as(workspace: Path, name: str, version: str = "0.1.0") -> Path:
    """Another adapter with the same bytes."""
    old, new = workspace / "adapters" / NAME / "0.1.0", workspace / "adapters" / name / version
    shutil.copytree(old, new)
    edit_manifest(new, name=name, version=version)
    return new


def edit_manifest(folder: Path, **values: object) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | values))


def edit_probe(folder: Path, **values: object) -> None:
    edit_manifest(folder, probe=json.loads((folder / MANIFEST).read_text())["probe"] | values)


def put(workspace: Path, **options: object) -> Attached:
    name, target = options.pop("name", None), options.pop("target", "tiny-r1")
    return attach(name, target=target, workspace=workspace, **options)  # pyright: ignore[reportArgumentType]


def test_the_effect_on_the_own_base_is_the_recorded_one(workspace: Path, made: Adapter) -> None:
    done = put(workspace, name=NAME)
    assert done.fit.level == "exact" and done.proof.floor is None and done.completions == ()
    assert done.proof.kl == pytest.approx(kl_of(made.manifest), rel=TOLERANCE)
    assert done.proof.recorded == kl_of(made.manifest) > 0


def test_the_effect_on_a_sibling_lies_above_the_floor(workspace: Path, made: Adapter) -> None:
    done = put(workspace, name=f"{NAME}@0.1.0", target="tiny-r1b")
    assert done.fit.level == "kin"
    assert done.proof.floor == pytest.approx(FLOOR_SHARE * kl_of(made.manifest))
    assert done.proof.floor is not None and done.proof.kl > done.proof.floor
    assert done.proof.kl != done.proof.recorded


def test_distant_relatives_are_attached_with_a_word_of_warning(workspace: Path) -> None:
    done = put(workspace, name=NAME, target="tiny-math")
    assert done.fit.level == "distant" and "expect little" in done.fit.reason


@pytest.mark.parametrize("factor", [0.5, 0.97, 1.03, 2.0, 1e9])
def test_a_recorded_effect_that_is_not_the_measured_one_is_refused(
    workspace: Path, made: Adapter, factor: float
) -> None:
    edit_probe(made_copy(workspace), kl=factor * kl_of(made.manifest))
    with pytest.raises(NoEffect) as caught:
        put(workspace, name=NAME)
    assert caught.value.exit_code == 9 and "recorded" in caught.value.message


def made_copy(workspace: Path) -> Path:
    return workspace / "adapters" / NAME / "0.1.0"


@pytest.mark.parametrize("kl", [0.0, -1.0])
def test_an_adapter_without_a_recorded_effect_is_broken(workspace: Path, kl: float) -> None:
    edit_probe(made_copy(workspace), kl=kl)
    with pytest.raises(Integrity):
        put(workspace, name=NAME)


def test_an_effect_below_the_floor_is_refused_on_another_target(workspace: Path) -> None:
    edit_probe(made_copy(workspace), kl=1e4)
    with pytest.raises(NoEffect, match="below the floor"):
        put(workspace, name=NAME, target="tiny-r1b")


def test_a_manifest_without_probe_texts_proves_nothing(workspace: Path) -> None:
    edit_probe(made_copy(workspace), texts=[])
    for target in ("tiny-r1", "tiny-r1b"):
        with pytest.raises(HubError) as caught:
            put(workspace, name=NAME, target=target)
        assert caught.value.exit_code in (5, 9)


def test_changed_bytes_are_refused_before_loading(workspace: Path) -> None:
    path = made_copy(workspace) / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Integrity) as caught:
        put(workspace, name=NAME)
    assert caught.value.exit_code == 5 and WEIGHTS in caught.value.message


def test_a_missing_file_is_refused(workspace: Path) -> None:
    (made_copy(workspace) / CONFIG).unlink()
    with pytest.raises(HubError) as caught:
        put(workspace, name=NAME)
    assert caught.value.exit_code in (3, 5)


def test_an_empty_store_says_how_to_get_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        put(tmp_path)
    assert caught.value.exit_code == 3 and "extract" in caught.value.hint and "pull" in caught.value.hint


def test_the_only_adapter_that_fits_is_taken(workspace: Path) -> None:
    assert put(workspace).adapter.manifest.reference == f"{NAME}@0.1.0"


def test_the_latest_version_is_taken(workspace: Path) -> None:
    copy_as(workspace, NAME, "0.10.0")
    copy_as(workspace, NAME, "0.9.0")
    assert put(workspace).adapter.manifest.version == "0.10.0"
    assert put(workspace, name=f"{NAME}@0.9.0").adapter.manifest.version == "0.9.0"
    with pytest.raises(NotFound, match=r"no version 0\.5\.0"):
        put(workspace, name=f"{NAME}@0.5.0")


def test_where_several_fit_one_has_to_be_named(workspace: Path) -> None:
    copy_as(workspace, "another")
    with pytest.raises(Usage) as caught:
        put(workspace)
    assert (
        caught.value.exit_code == 2
        and "another (exact)" in caught.value.message
        and f"{NAME} (exact)" in caught.value.message
    )
    assert put(workspace, name="another").adapter.manifest.name == "another"


def test_a_broken_neighbour_does_not_hide_the_one_that_fits(workspace: Path) -> None:
    (copy_as(workspace, "broken") / MANIFEST).write_text("{")
    assert put(workspace).adapter.manifest.name == NAME


def test_an_adapter_that_fits_nothing_is_not_found_for_the_target(workspace: Path) -> None:
    from tests.helpers.models import random_model

    random_model("qwen2").save_pretrained(workspace / "other")
    with pytest.raises(NotFound, match="fits"):
        put(workspace, target=str(workspace / "other"))
    with pytest.raises(DoesNotFit) as caught:
        put(workspace, name=NAME, target=str(workspace / "other"), force=True)
    assert caught.value.exit_code == 4


def test_the_default_of_the_registry_comes_first(workspace: Path) -> None:
    copy_as(workspace, "another")
    (workspace / "registry.yaml").write_text(
        "models: {mine: {id: resa-hub/tiny-r1, default_adapter: another}, lost: {id: resa-hub/tiny-r1, "
        "default_adapter: gone}}"
    )
    assert put(workspace, target="mine").adapter.manifest.name == "another"
    with pytest.raises(NotFound) as caught:
        put(workspace, target="lost")
    assert "pull" in caught.value.hint and "gone" in caught.value.message
    assert f"name one that was made on it: another, {NAME}; or make it" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        (NAME, "tiny-r9", NotFound),
        ("nothing", "tiny-r1", NotFound),
        (NAME, "tina-tiny", Usage),
        ("Bad Name", "tiny-r1", Usage),
    ],
)
def test_wrong_names_are_told(workspace: Path, name: str, target: str, kind: type[HubError]) -> None:
    with pytest.raises(kind) as caught:
        put(workspace, name=name, target=target)
    assert caught.value.hint


def test_characters_that_the_tokenizer_does_not_know_are_named(workspace: Path) -> None:
    with pytest.raises(Usage) as caught:
        put(workspace, name=NAME, prompts=["what is 7*7?"])
    assert "'what is 7*7?' holds 'w'" in caught.value.message and "characters" in caught.value.hint


@pytest.mark.slow
def test_completions_are_a_function_of_prompt_and_seed(workspace: Path) -> None:
    texts = put(workspace, name=NAME, prompts=[PROMPT, "1+1+1+1="], temperature=3.0, seed=3, new_tokens=40).completions
    alone = put(workspace, name=NAME, prompts=["1+1+1+1="], temperature=3.0, seed=3, new_tokens=40).completions
    other = put(workspace, name=NAME, prompts=[PROMPT, "1+1+1+1="], temperature=3.0, seed=4, new_tokens=40).completions
    assert len(texts) == 2 and texts[1] == alone[0] and texts != other
    assert "<eos>" not in texts[0] and not texts[0].startswith(PROMPT)


def test_a_budget_of_new_tokens_is_kept(workspace: Path) -> None:
    (text,) = put(workspace, name=NAME, prompts=[PROMPT], new_tokens=3).completions
    assert text.startswith("<think>") and len(text.removeprefix("<think>")) == 2


def test_weights_that_were_scaled_and_signed_again_fail_the_proof(workspace: Path) -> None:
    """A forger who recomputes the hashes still has to reproduce the recorded effect."""
    from resa_hub.adapter.layout import content_hash, identity_of, scan

    folder = made_copy(workspace)
    state = load_file(folder / WEIGHTS)
    save_file(
        {name: 0.5 * t if ".lora_B." in name else t for name, t in state.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    files = identity_of(scan(folder))
    edit_manifest(
        folder,
        files=[{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files],
        content_hash=content_hash(files),
    )
    with pytest.raises(NoEffect, match="recorded"):
        put(workspace, name=NAME)


@pytest.mark.slow
def test_with_a_finished_adapter_the_steps_are_not_skipped(tmp_path: Path) -> None:
    extract("tina-tiny", method="feature-diff", workspace=tmp_path, progress=Progress(quiet=True))
    done = put(tmp_path, prompts=[PROMPT])
    assert done.completions == ("<think>7*7=9;9-8=1;1+6=7;7-4=3</think><answer>3</answer>",)
    assert kl_of(Store(tmp_path / "adapters").get(AdapterRef(NAME)).manifest) > 0.1


def test_a_merged_model_says_what_the_adapter_says(workspace: Path, made: Adapter, tmp_path: Path) -> None:
    import torch

    from resa_hub.config.refs import Repo
    from resa_hub.data.snapshots import locate
    from resa_hub.engine.model.loading import load_base
    from resa_hub.engine.model.lora import load_lora
    from tests.helpers.models import tiny

    done = attach(NAME, target="tiny-r1", prompts=["1+1="], workspace=workspace, merge=tmp_path / "whole")
    assert done.merged == tmp_path / "whole" and not list(tmp_path.glob(".whole*"))
    ids = torch.tensor([[1, 9, 10, 11, 12]])
    merged = load_base(locate(Repo(str(tmp_path / "whole"))))
    assert torch.allclose(
        merged(input_ids=ids).logits,
        load_lora(load_base(tiny("tiny-r1")), made.folder)(input_ids=ids).logits,
        atol=1e-4,
    )
    assert not torch.allclose(merged(input_ids=ids).logits, load_base(tiny("tiny-r1"))(input_ids=ids).logits, atol=1e-2)
    with pytest.raises(Usage, match="exists"):
        attach(NAME, target="tiny-r1", workspace=workspace, merge=tmp_path / "whole")
