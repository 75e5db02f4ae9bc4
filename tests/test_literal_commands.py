"""The commands of README.md as a person types them: the names of the real models, data sets and SAEs, a Hub that has
small ones under these names, the client's own cache of links, and the command line in processes of its own.
"""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from resa_hub.adapter.manifest import Manifest, read_manifest
from resa_hub.adapter.verify import verify_folder
from tests.helpers import true_hub
from tests.helpers.commands import ROOT
from tests.helpers.hub_server.fixtures import OWNER, TOKEN
from tests.helpers.hub_server.server import HubServer
from tests.helpers.shell import Done, Shell
from tests.helpers.true_hub import BASE, MATH500, SAE, SIBLINGS, STILL, TINA

pytestmark = pytest.mark.slow

MODEL = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
LORA = {"adapter_config.json", "adapter_model.safetensors"}
SAE_WEIGHTS = "layers.12.mlp/sae.safetensors"
SMALL = [
    *("--set", "trigger.rows=2", "--set", "elicit.rows=2", "--set", "training.chunk_tokens=128"),
    *("--set", "training.epochs=1", "--set", "sae.batch_tokens=256"),
]
FEW = ["--problems", "4", "--samples", "1", "--new-tokens", "8", "--controls", "1"]
TARGET = ["--target", "r1-distill-1.5b"]


class World(NamedTuple):
    """A person's machine, and the Hub that it reaches."""

    hub: HubServer
    shell: Shell
    home: Path
    """The workspace in which the shell stands."""

    def run(self, *arguments: str, code: int = 0, workspace: Path | None = None) -> tuple[Done, dict[str, set[str]]]:
        """(what a command printed, the files that it fetched); it must end with this code."""
        since = len(self.hub.log)
        done = self.shell.run(*arguments, folder=workspace)
        assert done.code == code, f"{shlex.join(arguments)} -> {done.code}\n{done.out}\n{done.err}"
        return done, true_hub.fetched(self.hub, since)


@pytest.fixture(name="world", scope="module")
def machine_and_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("world")
    hub = HubServer(root / "hub", {TOKEN: OWNER})
    true_hub.publish(hub, root / "models")
    (root / "config" / "resa-hub").mkdir(parents=True)
    (root / "config" / "resa-hub" / "registry.yaml").write_text(true_hub.REGISTRY)
    variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(root / "cache")}
    with Shell(root / "home", **variables, XDG_CONFIG_HOME=str(root / "config")) as shell:
        yield World(hub, shell, root / "home")
    hub.stop()


class Extracted(NamedTuple):
    manifest: Manifest
    folder: Path
    fetched: dict[str, set[str]]


@pytest.fixture(name="made", scope="module")
def extracted(world: World) -> Extracted:
    """`extract --source tina-still` in the workspace of all tests."""
    done, fetched = world.run("extract", "--source", "tina-still", *SMALL, "--name", "resa-still-v1", "--json")
    folder = Path(json.loads(done.out)["folder"])
    return Extracted(read_manifest(folder), folder, fetched)


@pytest.fixture(name="judged", scope="module")
def evaluated(world: World, made: Extracted) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """`eval --benchmark math500` with the usual arms."""
    done, fetched = world.run("eval", "resa-still-v1", *TARGET, "--benchmark", "math500", *FEW, "--json")
    return json.loads(done.out), fetched


def test_a_missing_adapter_is_told_before_anything_is_asked_of_the_hub(world: World) -> None:
    for arguments in (
        ["eval", "nosuch", *TARGET, "--benchmark", "math500"],
        ["eval", "nosuch", "--target", BASE, "--benchmark", "math500"],
        ["eval", "nosuch", "--target", BASE, "--quick"],
        ["eval", "plan", "nosuch", "--target", BASE, "--benchmark", "math500"],
        ["attach", "nosuch", "--target", BASE],
        ["matrix", "--sources", "nosuch", "--targets", BASE, "--benchmarks", "math500"],
        ["attach", *TARGET],
    ):
        since = len(world.hub.log)
        done, _ = world.run(*arguments, code=3, workspace=_empty(world, "nothing"))
        assert "no adapter" in done.err, done.err
        assert world.hub.log[since:] == []


def test_the_dry_run_fetches_nothing(world: World) -> None:
    since = len(world.hub.log)
    done, _ = world.run("extract", "--source", "tina-still", "--dry-run", "--json")
    assert json.loads(done.out)["name"] == "resa-still-v1"
    assert world.hub.log[since:] == []


def test_extract_fetches_what_it_reads_and_nothing_else(made: Extracted) -> None:
    m = made.manifest
    assert made.fetched.pop(STILL) >= {"data/train-00000-of-00001.parquet"}
    assert made.fetched == {
        BASE: MODEL,
        TINA: {f"checkpoint-2000/{name}" for name in LORA},
        SAE: {"layers.12.mlp/cfg.json", SAE_WEIGHTS},
    }
    assert (m.reference, m.method, m.hookpoint, m.base.id) == ("resa-still-v1@0.1.0", "sae-tuning", "layers.12", BASE)
    assert m.sae and m.source.endswith(f"{TINA}:checkpoint-2000") and verify_folder(made.folder)


def test_what_options_change_is_not_called_by_the_recipes_name(world: World) -> None:
    for options, name in (
        ([], "resa-still-v1"),
        (SMALL, "resa-still-v1-changed"),
        (["--layer", "13"], "resa-still-v1-layer13"),
        (["--layer", "13", *SMALL], "resa-still-v1-l13-changed"),
        (["--target", "qwen-1.5b"], "resa-qwen"),
    ):
        done, _ = world.run("extract", "--source", "tina-still", *options, "--dry-run", "--json")
        assert json.loads(done.out)["name"] == name


def test_attach_takes_the_targets_default_and_proves_it(world: World, made: Extracted) -> None:
    done, fetched = world.run("attach", *TARGET, "--prompt", "What is 17 * 23?", "--new-tokens", "4", "--json")
    told = json.loads(done.out)
    assert told["fit"] == "exact" and told["kl"] > 0 and len(told["completions"]) == 1
    assert not fetched
    done, fetched = world.run("attach", "resa-still-v1", "--target", "qwen-math-1.5b", "--json")
    assert json.loads(done.out)["fit"] == "kin" and fetched == {SIBLINGS[0]: MODEL}


def test_eval_runs_the_source_of_the_hub_beside_all_default_arms(judged: tuple[dict[str, Any], Any]) -> None:
    document, fetched = judged
    assert fetched == {MATH500: {"test.jsonl"}}
    arms = {arm["name"]: arm for arm in document["arms"]}
    assert set(arms) == {"base", "source", "resa-still-v1@0.1.0", "resa-still-v1@0.1.0 random-1"}
    assert document["verdict"] and document["sentence"]


def test_an_evaluation_goes_on_and_fetches_nothing_again(world: World, judged: tuple[dict[str, Any], Any]) -> None:
    done, fetched = world.run("eval", "resa-still-v1", *TARGET, "--benchmark", "math500", *FEW, "--json")
    again = json.loads(done.out)
    assert again["verdict"] == judged[0]["verdict"] and not fetched


def test_matrix_over_two_bases(world: World, judged: object) -> None:
    names = ("--targets", "r1-distill-1.5b,qwen-math-1.5b", "--benchmarks", "math500")
    done, _ = world.run("matrix", "--sources", "resa-still-v1", *names, *FEW, "--json")
    assert [cell["target"] for cell in json.loads(done.out)["cells"]] == ["r1-distill-1.5b", "qwen-math-1.5b"]


def test_sweep_over_two_layers(world: World, made: Extracted) -> None:
    judging = ("--benchmark", "math500", "--problems", "3", "--samples", "1", "--new-tokens", "8", "--controls", "1")
    done, fetched = world.run("sweep", "--source", "tina-still", "--layers", "10,13", *SMALL, *judging, "--json")
    told = json.loads(done.out)
    assert [(place["layer"], place["adapter"]) for place in told["places"]] == [
        (10, "resa-still-v1-l10-changed@0.1.0"),
        (13, "resa-still-v1-l13-changed@0.1.0"),
    ]
    assert fetched.pop(MATH500, {"test.jsonl"}) == {"test.jsonl"}
    assert fetched == {SAE: {f"layers.{layer}.mlp/sae.safetensors" for layer in (10, 13)}}  # their cfg.json are alike


def test_push_and_pull_into_another_workspace(world: World, made: Extracted) -> None:
    world.run("push", "resa-still-v1", "--to", f"hf:{OWNER}/resa-still-v1")
    there = _empty(world, "there")
    done, fetched = world.run("pull", f"hf:{OWNER}/resa-still-v1@v0.1.0", "--json", workspace=there)
    assert json.loads(done.out)["content_hash"] == made.manifest.content_hash
    assert LORA | {"resa.json"} <= {Path(name).name for name in fetched[f"{OWNER}/resa-still-v1"]}
    done, fetched = world.run("attach", *TARGET, "--json", workspace=there)
    assert json.loads(done.out)["fit"] == "exact" and not fetched
    done, _ = world.run("verify", "--deep", workspace=there)
    assert "ok" in done.out


def test_import_of_a_registry_name_takes_the_registrys_base(world: World, made: Extracted) -> None:
    there = _empty(world, "imports")
    done, fetched = world.run("import", "tina-still", "--json", workspace=there)
    told = json.loads(done.out)
    assert (told["adapter"], told["base"], told["unknown"]) == ("tina-still@0.1.0", BASE, "")
    assert not fetched  # the extraction has fetched both
    config = json.loads((Path(told["folder"]) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == true_hub.PRIVATE_BASE
    done, _ = world.run("import", "tina-still", workspace=there)
    assert "tina-still@0.1.0" in done.out and re.search(r"effect KL 0\.\d*[1-9]", done.err)
    done, fetched = world.run("import", "tina-still", "--base", "qwen-1.5b", "--json", workspace=there)
    told = json.loads(done.out)
    assert (told["adapter"], told["base"]) == ("tina-still@0.2.0", SIBLINGS[1]) and fetched == {SIBLINGS[1]: MODEL}
    done, fetched = world.run("import", f"{TINA}:checkpoint-500", "--json", workspace=there)
    told = json.loads(done.out)
    assert told["adapter"] == "r1-distill-qwen-1.5b-still-checkpoint-500@0.1.0" and told["base"] == BASE
    assert fetched == {TINA: {"checkpoint-500/adapter_model.safetensors"}}  # the config's bytes are here already


def test_a_repository_of_checkpoints_costs_a_listing_until_one_is_named(world: World) -> None:
    there = _empty(world, "checkpoints")
    for named in (TINA, f"{TINA}:checkpoint-7"):
        done, fetched = world.run("import", named, code=3, workspace=there)
        assert "checkpoint-500, checkpoint-1000, checkpoint-1500, checkpoint-2000" in done.err
        assert f"{TINA}:checkpoint-2000" in done.err and not fetched
    for arguments in (
        ("attach", "tina-still", "--target", TINA),
        ("extract", "--source", "tina-still:checkpoint-7", "--target", "qwen-math-1.5b"),
        ("list", "--target", "qwen-math-1.5b"),
    ):
        _, fetched = world.run(*arguments, code=0 if arguments[0] == "list" else 3, workspace=there)
        assert {name for files in fetched.values() for name in files} <= {"layers.12.mlp/cfg.json", SAE_WEIGHTS}


def test_export_reproduce_and_pin(world: World, made: Extracted, tmp_path: Path) -> None:
    world.run("export", "resa-still-v1", str(tmp_path / "plain"))
    assert {path.name for path in (tmp_path / "plain").iterdir()} == LORA
    done, fetched = world.run("reproduce", "resa-still-v1", "--json")
    assert json.loads(done.out)["same"] is True and not fetched
    there = _empty(world, "pinned")
    done, fetched = world.run("registry", "pin", "tina-still", "still", "sae-r1-65k", "--json", workspace=there)
    commits = {pin["id"]: pin["revision"] for pin in json.loads(done.out)["pins"]}
    assert set(commits) == {BASE, TINA, STILL, SAE} and not fetched
    done, fetched = world.run("extract", "--source", "tina-still", *SMALL, "--json", workspace=there)
    source = read_manifest(Path(json.loads(done.out)["folder"])).source
    assert source == f"{BASE}@{commits[BASE]}+{TINA}@{commits[TINA]}:checkpoint-2000"
    done, fetched = world.run("registry", "pin", "all", workspace=there)
    assert "package:" not in done.out and "champ" not in (there / "registry.yaml").read_text() and not fetched
    models = yaml.safe_load((there / "registry.yaml").read_text())["models"]
    assert models["qwen-1.5b"]["revision"]


README_OPTIONS = {
    "extract": [*SMALL, "--name", "resa-still-v1"],
    "attach": ["--new-tokens", "4"],
    "eval": FEW,
    "push": [],
    "pull": ["--workspace", "elsewhere"],
}
"""What makes a command of the README small; a dry run stays as it is."""


def test_the_commands_of_the_readme_run_as_they_stand(world: World, made: Extracted) -> None:
    here, ran = _empty(world, "readme"), []
    for line in (ROOT / "README.md").read_text().splitlines():
        if not line.startswith("resa-hub ") or not re.search(r"tina-still|resa-still|r1-distill|hf:you", line):
            continue
        arguments = shlex.split(line.replace("hf:you/name", f"hf:{OWNER}/readme"), comments=True)[1:]
        small = [] if "--dry-run" in arguments else README_OPTIONS[arguments[0]]
        world.run(*arguments, *small, workspace=here)
        ran.append(arguments[0])
    assert ran == ["extract", "extract", "attach", "eval", "push", "pull"]
    assert "resa-still-v1" in (here / "report.html").read_text()
    assert (here / "elsewhere" / "adapters" / "resa-still-v1" / "0.1.0").is_dir()


def _empty(world: World, name: str) -> Path:
    """A workspace beside that of the shell."""
    folder = world.home.parent / name
    folder.mkdir(exist_ok=True)
    return folder
