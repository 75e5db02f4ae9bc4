"""Adapters from elsewhere and for elsewhere, and made once more; the card that travels with them."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from resa_hub.adapter import card
from resa_hub.adapter.describe import sae_figures
from resa_hub.adapter.layout import CARD, CONFIG, MANIFEST, WEIGHTS
from resa_hub.adapter.manifest import SaeInit
from resa_hub.adapter.recorded import load_evaluations
from resa_hub.adapter.store import Adapter, Store
from resa_hub.adapter.verify import verify_folder
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.config.refs import AdapterRef
from resa_hub.core.errors import DoesNotFit, Integrity, NoEffect, NotFound, Usage
from resa_hub.core.files import walk
from resa_hub.core.progress import Progress
from resa_hub.engine.model.loading import load_base
from resa_hub.engine.model.lora import load_lora
from resa_hub.extraction.extract import extract
from resa_hub.extraction.import_sae import import_sae
from resa_hub.extraction.reproduce import planned, reproduce
from resa_hub.inference.attach import attach
from resa_hub.inference.import_export import export, import_adapter
from tests.conftest import QUICK
from tests.helpers.adapters import kl_of, make_adapter, recipe_of
from tests.helpers.models import tiny, write_lora
from tests.helpers.own_models import names_base
from tests.helpers.small_saes import theirs, written

QUIET = Progress(quiet=True)


def test_a_plain_lora_comes_in_and_can_be_attached(tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "lora")
    adapter, missing = import_adapter(str(folder), name="mine", workspace=tmp_path)
    m = adapter.manifest
    assert (
        not missing
        and m.reference == "mine@0.1.0"
        and m.base.id == "resa-hub/tiny-r1"
        and m.base.weights
        and m.recipe is None
        and kl_of(m) > 0
    )
    assert (adapter.folder / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert (
        import_adapter(str(folder), name="mine", workspace=tmp_path)[0].manifest.version == "0.1.0"
    )  # the same bytes are no new version
    done = attach("mine", target="tiny-r1", workspace=tmp_path)
    assert done.fit.level == "exact" and done.proof.kl == pytest.approx(kl_of(m), rel=0.01)
    assert attach("mine", target="tiny-r1b", workspace=tmp_path).fit.level == "kin"
    assert "How it was made is not recorded" in (adapter.folder / CARD).read_text()
    with pytest.raises(Usage, match="imported"):
        reproduce("mine", workspace=tmp_path)


def test_what_is_not_known_of_an_import_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lora(tmp_path / "lora")
    home = ["--workspace", str(tmp_path)]
    assert run(["import", str(tmp_path / "lora"), "--name", "mine", *home]) == 0
    capsys.readouterr()
    assert run(["show", "mine", *home]) == 0
    told = capsys.readouterr().out
    assert "made by   imported, 2" in told
    assert "seed" not in told and "source" not in told and "took" not in told
    assert run(["attach", "mine", "--target", "tiny-r1", *home]) == 0
    assert "recorded at import" in capsys.readouterr().err


def test_a_registry_adapter_comes_in_by_its_name(tmp_path: Path) -> None:
    adapter, missing = import_adapter("tina-tiny", workspace=tmp_path)
    assert adapter.manifest.reference == "tina-tiny@0.1.0" and not missing and verify_folder(adapter.folder)
    with pytest.raises(Usage, match="is a model"):
        import_adapter("tiny-r1", workspace=tmp_path)


def test_without_its_base_an_adapter_comes_in_with_what_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_lora(tmp_path / "lora")
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": "./gone"}))
    adapter, missing = import_adapter(str(folder), workspace=tmp_path)
    assert (
        "not at hand" in missing
        and adapter.manifest.probe is None
        and adapter.manifest.base.id == "./gone"
        and not adapter.manifest.base.weights
    )
    done = attach("lora", target="tiny-r1", workspace=tmp_path)
    assert done.fit.level == "distant" and done.proof.recorded is None and done.proof.kl > 0
    assert run(["show", "lora", "--workspace", str(tmp_path)]) == 0 and "not known" in capsys.readouterr().out
    assert run(["list", "--workspace", str(tmp_path)]) == 0


def test_a_second_import_that_knows_the_base_is_a_new_version(tmp_path: Path) -> None:
    """The same bytes on another base, or on one at last, are not answered with what was known before."""
    folder = str(write_lora(tmp_path / "lora"))
    names_base(tmp_path / "lora", "./gone")

    def imported(base: str | None = None) -> tuple[str, str, bool, str]:
        adapter, missing = import_adapter(folder, base=base, workspace=tmp_path)
        m = adapter.manifest
        return m.version, m.base.id, m.probe is not None, missing

    first = imported()
    assert first[:3] == ("0.1.0", "./gone", False) and "not at hand" in first[3]
    assert imported() == first
    assert imported("tiny-r1") == ("0.2.0", "resa-hub/tiny-r1", True, "")
    assert imported("tiny-r1b") == ("0.3.0", "resa-hub/tiny-r1b", True, "")
    assert imported("tiny-r1") == ("0.2.0", "resa-hub/tiny-r1", True, "")
    assert imported()[0] == "0.3.0"  # without a word about the base the newest is meant, as everywhere
    with pytest.raises(NotFound, match="gone"):
        imported("./gone")


def test_the_registry_knows_the_base_of_its_adapters(tmp_path: Path) -> None:
    """Whatever path of their makers stands in their config."""
    write_lora(tmp_path / "lora")
    names_base(tmp_path / "lora", "/home/someone/base")
    _, missing = import_adapter(str(tmp_path / "lora"), name="other", workspace=tmp_path)
    assert "not at hand" in missing
    entry = {"base": "tiny-r1", "adapter": {"id": str(tmp_path / "lora")}}
    (tmp_path / "registry.yaml").write_text(json.dumps({"models": {"mine": entry}}))
    for origin in ("mine", str(tmp_path / "lora")):
        adapter, missing = import_adapter(origin, workspace=tmp_path)
        assert adapter.manifest.base.id == "resa-hub/tiny-r1" and not missing


def test_what_is_no_sound_lora_stays_outside(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NotFound, match=CONFIG):
        import_adapter(str(empty), workspace=tmp_path)
    pickled = write_lora(tmp_path / "pickled")
    (pickled / WEIGHTS).rename(pickled / "adapter_model.bin")
    with pytest.raises(NotFound, match=WEIGHTS):
        import_adapter(str(pickled), workspace=tmp_path)
    coded = write_lora(tmp_path / "coded")
    config = json.loads((coded / CONFIG).read_text())
    (coded / CONFIG).write_text(
        json.dumps(config | {"auto_mapping": {"base_model_class": "X", "parent_library": "evil"}})
    )
    with pytest.raises(Integrity):
        import_adapter(str(coded), workspace=tmp_path)
    zero = write_lora(tmp_path / "zero")
    (zero / CONFIG).write_text(json.dumps(config | {"lora_alpha": 0}))
    with pytest.raises(NoEffect):
        import_adapter(str(zero), workspace=tmp_path)
    with pytest.raises((DoesNotFit, NoEffect)):
        import_adapter(str(write_lora(tmp_path / "other")), base=str(_foreign(tmp_path)), workspace=tmp_path)
    assert Store(tmp_path / "adapters").names() == []


def _foreign(folder: Path) -> Path:
    """A model of other sizes."""
    from tests.helpers.models import random_model

    random_model("qwen2").save_pretrained(folder / "foreign")
    return folder / "foreign"


def test_export_gives_a_folder_that_peft_loads_alike(made: Adapter, tmp_path: Path) -> None:
    plain = export(made, tmp_path / "plain", base="served-name")
    assert sorted(walk(plain)) == [CONFIG, WEIGHTS]
    assert json.loads((plain / CONFIG).read_text())["base_model_name_or_path"] == "served-name"
    ids = torch.tensor([[1, 9, 10, 11]])
    logits = [load_lora(load_base(tiny("tiny-r1")), folder)(input_ids=ids).logits for folder in (plain, made.folder)]
    assert torch.equal(*logits)
    whole = export(made, tmp_path / "whole", sae=True)
    assert (
        "sae/layers.2/cfg.json" in set(walk(whole))
        and (whole / CONFIG).read_bytes() == (made.folder / CONFIG).read_bytes()
    )
    with pytest.raises(Usage, match="not an empty folder"):
        export(made, plain)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "whole"]


def test_a_damaged_adapter_is_not_exported(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (name,) = Store(workspace / "adapters").names()
    path = workspace / "adapters" / name / "0.1.0" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert run(["export", name, str(workspace / "out"), "--workspace", str(workspace)]) == 5
    assert not (workspace / "out").exists() and "was changed" in capsys.readouterr().err


@pytest.mark.slow
def test_the_recipe_run_again_gives_the_same_bytes(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (name,) = Store(workspace / "adapters").names()
    assert run(["reproduce", name, "--workspace", str(workspace), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["same"]
        and found["content_hash"] == found["again"]
        and found["cosine"] == pytest.approx(1)
        and found["causes"] == []
    )
    assert not list((workspace / ".resa-hub" / "reproduce").iterdir())


@pytest.mark.slow
def test_names_that_only_the_workspace_knows_are_found_again(tmp_path: Path) -> None:
    """Source, target, sibling, data and SAE that its registry.yaml names; an adapter of its store whose norm a random
    one takes.
    """
    text = json.dumps(
        {
            "models": {
                "mine": {"id": "resa-hub/tiny-r1"},
                "cousin": {"id": "resa-hub/tiny-r1b"},
                "mine-taught": {"base": "mine", "adapter": {"id": "resa-hub/tina-tiny"}},
            },
            "datasets": {"sums": {"id": "resa-hub/tiny-chain"}},
        }
    )
    (tmp_path / "registry.yaml").write_text(text)
    written(tmp_path / "elsewhere" / "layers.2", theirs())
    import_sae(f"{tmp_path}/elsewhere", name="dictionary", workspace=tmp_path)
    shutil.rmtree(tmp_path / "elsewhere")
    data = ["trigger.name=sums", "elicit.name=sums"]
    sae = ["sae.mode=finetuned", "sae.origin=dictionary", "rollouts.siblings=[cousin]"]
    first, _ = extract(
        "mine-taught", recipe="tiny-feature-diff", workspace=tmp_path, settings=[*QUICK, *data, *sae], progress=QUIET
    )
    found = reproduce(first.manifest.name, workspace=tmp_path, progress=QUIET)
    assert found.same and found.causes == []
    settings = [*QUICK, *data, f"norm_of={first.manifest.reference}"]
    control, _ = extract(
        "mine-taught",
        recipe="tiny-feature-diff",
        method="random",
        workspace=tmp_path,
        settings=settings,
        progress=QUIET,
    )
    assert reproduce(control.manifest.name, workspace=tmp_path, progress=QUIET).same
    # The plan that a manifest records is the one that was run, template and siblings too.
    again = planned(first.manifest, Workspace(tmp_path).registry)
    assert again.siblings and again.siblings.keys() == {"cousin"} and again.template is None
    recipe = msgspec.structs.replace(recipe_of(first.manifest), template="r1-code")
    assert (
        planned(msgspec.structs.replace(first.manifest, recipe=recipe), Workspace(tmp_path).registry).template
        == "r1-code"
    )
    # Another SAE under the same name is a cause.
    shutil.rmtree(tmp_path / "saes")
    (tmp_path / "registry.yaml").write_text(text)
    written(tmp_path / "elsewhere" / "layers.2", theirs(7))
    import_sae(f"{tmp_path}/elsewhere", name="dictionary", workspace=tmp_path)
    found = reproduce(first.manifest.name, workspace=tmp_path, progress=QUIET)
    assert not found.same and any(cause.startswith("the SAE that it starts from") for cause in found.causes)


@pytest.mark.slow
def test_what_differs_is_told(workspace: Path) -> None:
    """The manifest is made to claim other libraries and another seed: the second run must be said to differ, how far,
    and why.
    """
    (name,) = Store(workspace / "adapters").names()
    path = workspace / "adapters" / name / "0.1.0" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["recipe"]["training"]["learning_rate"] = 5e-4
    manifest["run"]["libraries"]["torch"] = "1.0"
    path.write_text(json.dumps(manifest))
    found = reproduce(name, workspace=workspace, progress=QUIET)
    assert (
        not found.same
        and found.cosine is not None
        and 0.3 < found.cosine < 0.9999
        and "not reproduced" in found.sentence
    )
    assert any(cause.startswith("torch 1.0 then") for cause in found.causes)


def test_notes_of_a_person_are_kept_when_the_card_is_made_again(made: Adapter) -> None:
    text = card.render(made.manifest)
    assert card.NOTES.search(text)
    noted = text.replace(f"{card.BEGIN}\n\n", f"{card.BEGIN}\nUse it with care.\nIt is mine.\n")
    again = card.render(made.manifest, [], noted)
    assert "Use it with care.\nIt is mine." in again and card.render(made.manifest, [], again) == again


def test_the_front_matter_is_what_the_hub_reads(made: Adapter) -> None:
    from huggingface_hub import ModelCard

    verdict = {
        "verdict": "transferred",
        "sentence": "Better.",
        "target": "tiny-r1",
        "benchmark": "tiny-chain",
        "split": "test",
        "samples": 4,
        "arms": [{"role": "base", "score": 40.0}, {"role": "adapter", "score": 91.23}],
    }
    manifest = msgspec.structs.replace(made.manifest, license="apache-2.0")
    read: Any = ModelCard(card.render(manifest, [verdict], verdicts=card.Verdicts("- Better.")))
    assert (read.data.library_name, read.data.base_model, read.data.base_model_relation) == (
        "peft",
        "resa-hub/tiny-r1",
        "adapter",
    )
    assert (
        read.data.license == "apache-2.0"
        and read.data.pipeline_tag == "text-generation"
        and "feature-diff" in read.data.tags
    )
    (result,) = read.data.eval_results or []
    assert (result.dataset_type, result.metric_value) == ("tiny-chain", 91.23) and "transferred" in str(
        result.metric_name
    )
    assert "Better." in read.text and "--max-lora-rank 32" in read.text


def test_the_quality_of_the_sae_is_told_with_what_it_means(
    made: Adapter, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `show` and by the card, from the manifest's own figures; an artifact that records fewer is told with fewer."""
    manifest, sae = made.manifest, made.manifest.sae
    assert sae is not None
    q = sae.quality
    wanted = {
        "FVU": f"{q['fvu_without_first']:.3g}",
        "FVU with position 0": f"{q['fvu']:.3g}",
        "L0": f"{q['l0']:.3g}",
        "dead": f"{q['dead']:.1%}",
        "CE recovered": f"{q['ce_recovered']:.1%}",
        "CE": f"{q['ce']:.4g} nats",
        "CE spliced": f"{q['ce_spliced']:.4g} nats",
        "KL spliced": f"{q['kl']:.3g} nats",
    }
    ((at, told),) = sae_figures(manifest)
    assert (
        at == "layers.2" and {f.name: f.value for f in told}.items() > wanted.items() and all(f.meaning for f in told)
    )
    text = card.render(manifest)
    assert run(["show", manifest.name, "--workspace", str(workspace)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, value in wanted.items():
        assert f"| {name} | {value} |" in text and f"layers.2 {name}: {value} (" in shown
    assert f"{q['tokens']:,.0f} tokens" in text
    # Several hookpoints, and a start from elsewhere.
    run_ = msgspec.structs.replace(
        manifest.run, findings={"saes": {"layers.2": q, "layers.3": q | {"fvu_without_first": 0.5}, "<b>": q}}
    )
    start = SaeInit(digest="sha256:0", format="sparsify", hookpoint="layers.2.mlp", fvu_here=1.25, fvu_there=0.125)
    two = msgspec.structs.replace(manifest, run=run_, sae=msgspec.structs.replace(sae, start=start))
    text = card.render(two)
    assert "| FVU | 0.5 |" in text.partition("## Quality of the SAE at layers.3")[2] and "<b>" not in text
    assert "| FVU at the start | 1.25 |" in text and "layers.2.mlp it is 0.125" in text
    # What older artifacts record, down to nothing.
    for fewer in ({"fvu": 0.25, "l0": 8.0}, {}):
        old = msgspec.structs.replace(
            manifest,
            sae=msgspec.structs.replace(sae, quality=fewer),
            run=msgspec.structs.replace(run_, findings={"saes": 3}),
        )
        text = card.render(old)
        assert (
            text.count("| FVU") == ("fvu" in fewer)
            and ("## Quality of the SAE" in text) == bool(fewer)
            and f"k = {sae.k} at layers.2" in text
        )
        (workspace / "adapters" / manifest.name / manifest.version / MANIFEST).write_bytes(old.to_json())
        assert run(["show", manifest.name, "--workspace", str(workspace)]) == 0
        assert ("FVU with position 0: 0.25 (" in capsys.readouterr().out) == bool(fewer)


def test_a_card_without_verdict_claims_nothing(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapters")
    assert load_evaluations(Store(tmp_path / "adapters").get(AdapterRef("demo"))) == []
    text = card.render(Store(tmp_path / "adapters").get(AdapterRef("demo")).manifest)
    assert "Nothing is claimed" in text and folder.is_dir()
    shutil.rmtree(folder)
