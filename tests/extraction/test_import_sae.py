"""SAEs from elsewhere: into a workspace, used by their name from then on, and out again in sparsify's format."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from sparsify import SparseCoder

from resa_hub.adapter.store import Adapter
from resa_hub.adapter.verify import verify_folder
from resa_hub.cli.main import run
from resa_hub.config.registry import builtin_path
from resa_hub.core.errors import Conflict, DoesNotFit, HubError, Integrity, NotFound, Usage
from resa_hub.engine.sae.formats import load_saelens, save_sparsify
from resa_hub.extraction.import_sae import import_sae
from resa_hub.inference.import_export import export
from tests.conftest import QUICK
from tests.helpers.hub_server.server import HubServer
from tests.helpers.small_saes import LATENTS, WIDTH, K, agree, change, ours, publish, theirs, weights, written

WITH_ITS_SAE = [setting for setting in QUICK if not setting.startswith(("sae.", "trigger."))]
MINE = "# my own names\nmodels:\n  other: {id: some/model, note: kept}\n"


def made(workspace: Path, *settings: str, capsys: pytest.CaptureFixture[str]) -> Adapter:
    """What `extract` makes of tina-tiny with an SAE by its registry name, through the command line."""
    from resa_hub.adapter.workspace import Workspace
    from resa_hub.hub.resolve import resolve_adapter

    said = [word for setting in [*WITH_ITS_SAE, *settings] for word in ("--set", setting)]
    assert (
        run(
            [
                "extract",
                "--source",
                "tina-tiny",
                "--method",
                "feature-diff",
                "--workspace",
                str(workspace),
                "--quiet",
                *said,
            ]
        )
        == 0
    )
    return resolve_adapter(capsys.readouterr().out.strip().splitlines()[-1], Workspace.find(workspace))


@pytest.mark.slow
@pytest.mark.parametrize("sparsifys_own", [True, False])
def test_an_imported_sae_is_used_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sparsifys_own: bool
) -> None:
    coder = theirs()
    if sparsifys_own:
        written(tmp_path / "elsewhere" / "layers.2", coder)
    else:
        save_sparsify(ours(), tmp_path / "elsewhere" / "layers.2")
    home = tmp_path / "home"
    home.mkdir()
    (home / "registry.yaml").write_text(MINE)
    assert (
        run(
            [
                "import",
                f"{tmp_path}/elsewhere",
                "--sae",
                "--name",
                "mine",
                "--base",
                "tina-tiny",
                "--workspace",
                str(home),
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["hookpoint"], told["latents"], told["k"], told["format"], told["missing"], told["new"]) == (
        "layers.2",
        LATENTS,
        K,
        "sparsify",
        "",
        True,
    )
    content = yaml.safe_load((home / "registry.yaml").read_text())
    entry = content["saes"]["mine"]
    assert (
        content["models"] == {"other": {"id": "some/model", "note": "kept"}}
        and (home / "registry.yaml.before-import").read_text() == MINE
    )
    note = entry.pop("note")
    assert note.startswith(f"imported from {tmp_path}/elsewhere, sha256:")
    assert entry == {
        "id": "./saes/mine",
        "format": "saelens",
        "base": "tina-tiny",
        "hookpoints": "layers.{N}",
        "latents": LATENTS,
        "k": K,
    }
    assert sorted(
        path.relative_to(home / "saes").as_posix() for path in (home / "saes").rglob("*") if path.is_file()
    ) == [
        "mine/layers.2/cfg.json",
        "mine/layers.2/sae_weights.safetensors",
    ]
    if sparsifys_own:
        agree(load_saelens(home / "saes/mine/layers.2", WIDTH, "layers.2"), coder)
    # The workspace may move, and the SAE's origin go.
    moved = home.rename(tmp_path / "moved")
    (tmp_path / "elsewhere").rename(tmp_path / "gone")
    adapter = made(moved, "sae.mode=finetuned", "sae.origin=mine", capsys=capsys)
    manifest = verify_folder(adapter.folder)
    assert manifest.sae and manifest.sae.start and manifest.hookpoint == "layers.2"
    assert (manifest.sae.origin, manifest.sae.latents, manifest.sae.k, manifest.sae.start.hookpoint) == (
        "mine",
        LATENTS,
        K,
        "layers.2",
    )
    start, tuned = (
        load_saelens(folder, WIDTH, "layers.2")
        for folder in (moved / "saes/mine/layers.2", adapter.folder / "sae/layers.2")
    )
    assert 0 < (start.W_dec - tuned.W_dec).abs().max() < 0.5  # it began there, and moved
    said = [
        word
        for setting in [*WITH_ITS_SAE, "sae.mode=finetuned", "sae.origin=mine", "hookpoint=layers.1"]
        for word in ("--set", setting)
    ]
    assert run(["extract", "--source", "tina-tiny", "--method", "feature-diff", "--workspace", str(moved), *said]) == 4
    assert "has no SAE of layers.1, only of layers.2" in capsys.readouterr().err


def test_a_name_holds_several_hookpoints_of_one_kind(tmp_path: Path) -> None:
    for seed, at in enumerate(("layers.1", "layers.2", "layers.2.mlp")):
        written(tmp_path / "many" / at, theirs(seed))
    home, origin = tmp_path / "home", f"{tmp_path}/many"
    with pytest.raises(DoesNotFit, match=r"holds the SAEs of layers\.1, layers\.2, layers\.2\.mlp") as caught:
        import_sae(origin, workspace=home)
    assert "--hookpoint" in caught.value.hint
    assert import_sae(origin, hookpoint="layers.1", workspace=home).name == "many"
    assert import_sae(f"{origin}/layers.2", workspace=home).name == "many"  # the folder of a hookpoint gives no name
    again = import_sae(origin, hookpoint="layers.1", workspace=home)
    assert not again.new and "not named" in again.missing
    before = (home / "registry.yaml").read_text()
    assert before.count("imported from") == 2 and len(list((home / "saes/many").iterdir())) == 2
    written(tmp_path / "many" / "layers.1", theirs(7))
    for at, name, reason in (
        ("layers.2.mlp", "many", "hookpoints"),
        ("layers.1", "many", "has another SAE of layers.1"),
        ("layers.2", "sae-r1-65k", "another SAE sae-r1-65k"),
    ):
        with pytest.raises(Conflict, match=reason):
            import_sae(origin, name=name, hookpoint=at, workspace=home)
    assert (home / "registry.yaml").read_text() == before and sorted(p.name for p in (home / "saes").iterdir()) == [
        "many"
    ]


def test_what_is_unsound_or_does_not_fit_stays_outside(tmp_path: Path) -> None:
    home = tmp_path / "home"
    fine = written(tmp_path / "layers.2")
    nan = written(tmp_path / "nan" / "layers.2")
    weights(nan, lambda t: t["b_dec"].fill_(torch.nan))
    cut = written(tmp_path / "cut" / "layers.2")
    (cut / "sae.safetensors").write_bytes((cut / "sae.safetensors").read_bytes()[:-8])
    coder = written(tmp_path / "coder" / "layers.2", transcode=True)
    narrow = written(tmp_path / "narrow" / "layers.2", theirs(width=32))
    silent = written(tmp_path / "silent")
    odd = written(tmp_path / "odd" / "layers.2.self_attn")
    (tmp_path / "empty").mkdir()
    cases: list[tuple[Path, dict[str, str], type[HubError], str]] = [
        (nan, {}, Integrity, "NaN"),
        (cut, {}, Integrity, "cut short"),
        (coder, {}, DoesNotFit, "a transcoder"),
        (narrow, {"base": "tiny-r1"}, DoesNotFit, "width 32"),
        (silent, {}, Usage, "nothing says which hookpoint"),
        (odd, {}, DoesNotFit, "where none is used here"),
        (tmp_path / "empty", {}, NotFound, "holds no SAE"),
        (tmp_path / "absent", {}, NotFound, "does not exist"),
        (fine, {"hookpoint": "layers.1"}, DoesNotFit, "made for layers.2, not for layers.1"),
        (fine, {"hookpoint": "layer.2"}, Usage, "not a hookpoint"),
        (fine, {"base": "nonsense"}, NotFound, "nonsense"),
        (silent, {"hookpoint": "layers.4", "base": "tiny-r1"}, DoesNotFit, "layers 0 to 3"),
        (fine, {"name": "../x"}, Usage, "not a name"),
    ]
    for folder, choices, error, reason in cases:
        with pytest.raises(error, match=reason) as caught:
            import_sae(str(folder), workspace=home, **choices)
        assert caught.value.hint, folder
    assert not (home / "registry.yaml").exists() and not (home / "saes").exists()
    with pytest.raises(Usage, match="everybody starts with"):
        import_sae(str(fine), workspace=builtin_path().parent)
    assert import_sae(str(silent), hookpoint="layers.3.mlp", base="tiny-r1", workspace=home)[:2] == (
        "silent",
        "layers.3.mlp",
    )


@pytest.mark.slow
def test_saelens_format_and_the_hub(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its metadata names hookpoint and base; fetched over HTTP from a subfolder by a process of its own."""
    from resa_hub.engine.sae.formats import save_saelens
    from tests.helpers.commands import resa_hub

    save_saelens(ours(), tmp_path / "repo" / "deep" / "blocks.2.hook_resid_post", "tina-tiny")
    publish(hub, tmp_path / "repo")
    words = ["import", "alice/sae-tiny@main:deep", "--sae", "--workspace", str(tmp_path / "home"), "--json"]
    done = resa_hub(*words, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["name"], told["hookpoint"], told["base"], told["format"], told["missing"]) == (
        "deep",
        "layers.2",
        "tina-tiny",
        "saelens",
        "",
    )
    with pytest.raises(DoesNotFit, match="made for tina-tiny"):
        import_sae(f"{tmp_path}/repo/deep", base="r1-distill-1.5b", workspace=tmp_path / "home")
    change(tmp_path / "repo/deep/blocks.2.hook_resid_post/cfg.json", architecture="standard")
    with pytest.raises(DoesNotFit):
        import_sae(f"{tmp_path}/repo/deep", name="other", workspace=tmp_path / "home")


def test_an_adapters_sae_goes_out_in_sparsifys_format_and_back(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from resa_hub.adapter.store import Store

    (adapter,) = Store(workspace / "adapters").readable()[0]
    words = ["export", adapter.manifest.name, str(tmp_path / "out"), "--workspace", str(workspace)]
    assert run([*words, "--sae-format", "sparsify"]) == 2 and "add --sae" in capsys.readouterr().err
    assert run([*words, "--sae", "--sae-format", "torch"]) == 2 and not (tmp_path / "out").exists()
    assert run([*words, "--sae", "--sae-format", "sparsify"]) == 0
    folder = tmp_path / "out/sae/layers.2"
    assert sorted(path.name for path in folder.iterdir()) == ["cfg.json", "sae.safetensors"]
    assert verify_folder(adapter.folder)  # what is in the store was not touched
    sae = load_saelens(adapter.folder / "sae/layers.2", WIDTH, "layers.2")
    x = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(1))
    coder = SparseCoder.load_from_disk(folder)
    with torch.no_grad():
        assert torch.allclose(coder(x).sae_out, sae(x), atol=1e-5)
    taken = import_sae(f"{tmp_path}/out/sae", name="back", base="tina-tiny", workspace=tmp_path / "home")
    first, again = (
        load_file(path / "sae_weights.safetensors") for path in (adapter.folder / "sae/layers.2", taken.folder)
    )
    assert first.keys() == again.keys() and all(
        torch.equal(first[name], again[name]) for name in ("W_enc", "W_dec", "b_dec")
    )
    applied = sae.cfg.apply_b_dec_to_input
    assert torch.allclose(
        again["b_enc"], first["b_enc"] if applied else first["b_enc"] + first["b_dec"] @ first["W_enc"], atol=1e-6
    )
    assert (
        export(adapter, tmp_path / "plain", sae=True)
        and (tmp_path / "plain/sae/layers.2/sae_weights.safetensors").is_file()
    )
