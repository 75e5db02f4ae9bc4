"""A model of one's own, without YAML: what it is recognised as, what it starts from, and the way to its verdict."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from resa_hub.cli.main import run
from resa_hub.config.methods import METHODS
from resa_hub.config.registry import Registry
from resa_hub.core.errors import HubError, NotFound, Usage
from resa_hub.core.progress import Progress
from resa_hub.extraction.extract import extract
from resa_hub.extraction.plan import Plan, plan
from tests.conftest import QUICK
from tests.helpers.commands import out, resa_hub
from tests.helpers.hub_server.server import HubServer
from tests.helpers.own_models import names_base, own_models
from tests.helpers.small_saes import publish

DATA: dict[str, Any] = {"data": "./sums.jsonl"}


@pytest.fixture(name="home", scope="module")
def folder_of_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_models(tmp_path_factory.mktemp("own"))


@pytest.fixture(autouse=True)
def working_folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the models where the person stands: paths are written as people write them."""
    here = tmp_path / "here"
    shutil.copytree(home, here)
    monkeypatch.chdir(here)
    return here


def planned(source: str | None = None, **choices: Any) -> Plan:
    return plan(source, registry=Registry(), **choices)


def refused(error: type[HubError], source: str | None = None, **choices: Any) -> HubError:
    with pytest.raises(error) as caught:
        planned(source, **choices)
    assert caught.value.hint
    return caught.value


# --- what a source is


@pytest.mark.parametrize(
    ("source", "target", "base", "adapter", "trained"),
    [
        ("./whole", "./base", "./whole", None, "./base"),
        ("./whole/", "tiny-r1", "./whole/", None, "resa-hub/tiny-r1"),
        ("./base+./lora", None, "./base", "./lora", "./base"),
        ("tiny-r1+./lora", None, "resa-hub/tiny-r1", "./lora", "resa-hub/tiny-r1"),
        ("tiny-r1+tina-tiny", None, "resa-hub/tiny-r1", "resa-hub/tina-tiny", "resa-hub/tiny-r1"),
        ("./lora", None, "resa-hub/tiny-r1", "./lora", "resa-hub/tiny-r1"),
        ("./lora", "tiny-r1b", "resa-hub/tiny-r1", "./lora", "resa-hub/tiny-r1b"),
        ("resa-hub/tina-tiny", None, "resa-hub/tiny-r1", "resa-hub/tina-tiny", "resa-hub/tiny-r1"),
    ],
)
def test_a_source_is_a_whole_model_a_base_with_a_lora_or_a_lora_alone(
    source: str, target: str | None, base: str, adapter: str | None, trained: str
) -> None:
    made = planned(source, target=target, **DATA)
    assert (str(made.source.base), made.source.adapter and str(made.source.adapter)) == (base, adapter)
    assert str(made.target) == trained
    assert (made.recipe.hookpoint, made.recipe.sae.latents, made.recipe.dtype) == ("layers.2", 2_048, "float32")
    assert made.recipe.trigger == made.recipe.elicit and made.recipe.trigger.name == "./sums.jsonl"


@pytest.mark.parametrize(
    ("base", "revision", "source"),
    [
        ("resa-hub/tiny-r1", None, "tiny-r1+./lora"),
        ("tiny-r1b", None, "tiny-r1b+./lora"),
        ("./base", None, "./base+./lora"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "abc", "r1-distill-1.5b+./lora"),
    ],
)
def test_a_lora_alone_stands_on_the_base_that_it_names(base: str, revision: str | None, source: str) -> None:
    names_base(Path("lora"), base, revision)
    assert planned("./lora", **DATA).recipe.source == source


@pytest.mark.parametrize("base", [None, "", "gpt", "./gone", "a/b/c", "tina-tiny"])
def test_a_lora_that_names_no_base_asks_for_it(base: str | None) -> None:
    names_base(Path("lora"), base)
    told = refused(Usage, "./lora", **DATA)
    assert told.message.startswith("./lora is a LoRA, and its adapter_config.json names")
    assert told.hint == "say it: --source BASE+./lora"


def test_sizes_of_the_target_decide_where_and_how_wide() -> None:
    """At the paper's model they are the paper's: layer 12 of 28, 65,536 latents."""
    made = planned("r1-distill-1.5b+./lora", **DATA)
    assert (made.recipe.hookpoint, made.recipe.sae.latents, made.recipe.dtype) == ("layers.12", 65_536, "bfloat16")
    config = json.loads(Path("base/config.json").read_text())
    for layers, width, dtype, expected in (
        (2, 64, "float32", ("layers.1", 2_048, "float32")),
        (24, 896, "bfloat16", ("layers.10", 32_768, "bfloat16")),
        (32, 4_096, "float16", ("layers.14", 131_072, "bfloat16")),
    ):
        sizes = {"num_hidden_layers": layers, "hidden_size": width, "dtype": dtype}
        Path("base/config.json").write_text(json.dumps(config | sizes))
        recipe = planned("./whole", target="./base", **DATA).recipe
        assert (recipe.hookpoint, recipe.sae.latents, recipe.dtype) == expected
    assert planned("./whole", target="./base", layer=3, **DATA).recipe.hookpoint == "layers.3"
    assert planned("./whole", target="./base", settings=["sae.latents=64"], **DATA).recipe.sae.latents == 64


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_default_recipe(method: str) -> None:
    made = planned("./whole", target="./base", method=method, **DATA)
    spec = METHODS[method]
    kind = "feature-diff"
    if spec.supervised:
        kind = "sft"
    elif spec.splices:
        kind = "sae-tuning"
    assert (made.recipe.method, made.recipe_name) == (method, f"default-{kind}")
    assert made.recipe.rollouts is not None or spec.trains_on != "rollouts"
    assert made.name == f"whole-{method}{'' if spec.supervised else '-l2'}"


def test_a_default_recipe_can_be_named_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    by_name = planned("./whole", target="./base", recipe="default-feature-diff", **DATA)
    assert by_name.recipe == planned("./whole", target="./base", method="feature-diff", **DATA).recipe
    shown = json.loads(out(capsys, "recipe", "show", "default-feature-diff", "--json"))
    fields = {field["path"]: (field["value"], field["origin"]) for field in shown["fields"]}
    assert fields["hookpoint"] == ("by its sizes", "config.json of the target")
    assert fields["features"] == (256, "default-feature-diff") and fields["source"][0] == "yours to give"


def test_what_starts_from_a_default_recipe_has_the_sizes_of_its_target_too(tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text(
        "models:\n  mine: {base: tiny-r1, adapter: {id: ./lora}, recipes: {feature-diff: first}}\n"
        "datasets:\n  sums: {id: ./sums.jsonl}\n"
        "recipes:\n"
        "  parent: {like: default-feature-diff, features: 8}\n"
        "  first: {like: parent, source: mine, target: tiny-r1, trigger: {name: sums}, elicit: {name: sums}}\n"
    )
    (tmp_path / "second.yaml").write_text("like: first\nsae: {latents: 64}\n")
    known = Registry(tmp_path)
    by_source, by_file = plan("mine", registry=known), plan(recipe=str(tmp_path / "second.yaml"), registry=known)
    assert (by_source.recipe.hookpoint, by_source.recipe.sae.latents) == ("layers.2", 2_048)
    assert (by_file.recipe.hookpoint, by_file.recipe.sae.latents, by_file.recipe.features) == ("layers.2", 64, 8)


def test_the_estimate_counts_a_lora_on_all_linear_modules() -> None:
    from resa_hub.core.flops import Shapes

    shapes = Shapes.of(json.loads(Path("base/config.json").read_text()))
    assert shapes and shapes.lora(("all-linear",), 8, 4) == shapes.lora(tuple(shapes.matrices), 8, 4) > 0


def test_data_of_both_stages_and_of_one() -> None:
    both = planned("tina-openr1", data="still", elicit="deepscaler").recipe
    assert (both.trigger.name, both.elicit.name) == ("still", "deepscaler")
    one = planned("tina-openr1", elicit="deepscaler").recipe
    assert (one.trigger.name, one.elicit.name) == ("deepscaler", "deepscaler")
    over = planned("tina-tiny", **DATA).recipe
    assert (over.trigger.name, over.elicit.name, over.sae.latents) == ("./sums.jsonl", "./sums.jsonl", 1_024)
    set_ = planned("tina-openr1", settings=["trigger.name=still", "elicit.name=open-rs"]).recipe
    assert (set_.trigger.name, set_.elicit.name) == ("still", "open-rs")


# --- what is wrong with it


@pytest.mark.parametrize(
    ("choices", "error", "said", "hint"),
    [
        ({"source": "./whole"}, Usage, "./whole is a whole model, and nothing says", "give --target BASE"),
        ({"source": "tiny-r1"}, Usage, "tiny-r1 is a whole model, and nothing says", "give --target BASE"),
        ({"source": "./gone", "target": "./base"}, NotFound, "no such folder ./gone", "path of the model"),
        ({"source": "./whole", "target": "./gone"}, NotFound, "no such folder ./gone", "path of the model"),
        ({"source": "./sums.jsonl", "target": "./base"}, NotFound, "is a file, not a folder", "holds the model"),
        ({"source": "whole", "target": "./base"}, NotFound, "no model is called 'whole'", "write ./whole"),
        ({"source": "tina-tin", "target": "./base"}, NotFound, "no model is called", "did you mean tina-tiny?"),
        ({"source": "nobody", "target": "./base"}, NotFound, "no model is called", "a folder ./path"),
        ({"source": "a/b/c", "target": "./base"}, Usage, "'a/b/c' is not a Hub id", "./path for a folder"),
        ({"source": "./whole", "target": "./lora"}, Usage, "./lora is a LoRA, not a whole model", "a target is"),
        ({"source": "./whole", "target": "tina-tiny"}, Usage, "is itself an adapter", "--target tiny-r1"),
        ({"source": "tina-tiny+./lora"}, Usage, "tina-tiny is itself an adapter", "write tiny-r1+./lora"),
        ({"source": "tiny-r1+tiny-r1b"}, Usage, "tiny-r1b is a base model, not an adapter", "behind the +"),
        ({"source": "tiny-r1+lora"}, NotFound, "no model is called 'lora'", "write ./lora"),
        ({"source": "nobody+./lora"}, NotFound, "no model is called 'nobody'", "Hub id"),
        ({"recipe": "tina-tiny"}, NotFound, "no recipe is called 'tina-tiny'", "it is a model: --source tina-tiny"),
        ({"recipe": "default-sft-"}, NotFound, "no recipe is called", "did you mean default-sft?"),
        ({"recipe": "./base"}, NotFound, "recipe base: it is a folder", "YAML file"),
        ({"recipe": "./gone.yaml"}, NotFound, "recipe gone.yaml: no such file", "YAML file"),
        ({"source": "./whole", "target": "./base", "data": None}, Usage, "on which problems", "--data ./problems"),
        ({"source": "tiny-r1+./lora", "data": "sums"}, NotFound, "no dataset is called 'sums'", "known"),
        ({"source": "tiny-r1+./lora", "data": "base"}, NotFound, "no dataset is called 'base'", "write ./base"),
        ({"source": "tiny-r1+./lora", "trigger": "still", "elicit": "still"}, Usage, "--data plays no part", "leave"),
        ({"source": "tiny-r1+./lora", "data": "./sums.jsonl:gold=x"}, Usage, "'gold' is no part", ":question="),
        ({"source": "tiny-r1+./lora", "method": "feature"}, Usage, "no method is called", "did you mean feature-diff?"),
    ],
)
def test_what_cannot_be_says_so_and_what_to_do(
    choices: dict[str, Any], error: type[HubError], said: str, hint: str
) -> None:
    told = refused(error, **(DATA | choices))
    assert said in told.message and hint in told.hint


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--source", "./base+./whole"], 3, "./whole holds no PEFT adapter: there is no adapter_config.json"),
        (["--source", "./lora", "--data", "./base"], 3, "./base is a folder, not a file"),
        (["--source", "./lora", "--data", "./gone.csv"], 3, "no such file ./gone.csv"),
        (
            ["--source", "./lora", "--data", "./base/chat_template.jinja"],
            2,
            "is none of .jsonl, .json, .csv or .parquet",
        ),
        (
            ["--source", "./lora", "--data", "./sums.jsonl:question=task"],
            2,
            "no column 'task'; it has question, answer",
        ),
        (["--source", "./lora", "--set", "elicit.cot=true"], 2, "no column of solutions (solution)"),
        (["--source", "./lora", "--layer", "9"], 2, "layers.9 does not exist"),
        (["--source", "./lora", "--target", "./empty"], 3, "./empty holds no model: there is no config.json"),
    ],
)
def test_a_dry_run_refuses_what_the_files_refuse(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    data = [] if "--data" in words else ["--data", "./sums.jsonl"]
    assert run(["extract", *words, *data, "--dry-run"]) == code
    assert said in capsys.readouterr().err


# --- from the Hub


@pytest.mark.slow
def test_own_models_of_the_hub_by_id_revision_and_subfolder(hub: HubServer, tmp_path: Path) -> None:
    """A LoRA in a subfolder of a repository, and a whole model; of neither more than the small files is fetched."""
    publish(hub, Path("base"), "alice/base")
    publish(hub, Path("whole"), "alice/rl")
    names_base(Path("lora"), "alice/base")
    (tmp_path / "runs").mkdir()
    shutil.copytree("lora", tmp_path / "runs" / "checkpoint-10")
    publish(hub, tmp_path / "runs", "alice/runs")
    cache = tmp_path / "hf"

    def told(*words: str) -> dict[str, Any]:
        done = resa_hub(
            *("extract", "--data", str(Path("sums.jsonl").resolve()), "--dry-run", "--json", *words),
            HF_ENDPOINT=hub.url,
            HF_HOME=str(cache),
        )
        return json.loads(done.stdout or done.stderr.strip().splitlines()[-1]) | {"code": done.returncode}

    whole = told("--source", "alice/rl", "--target", "alice/base@main")
    assert (whole["source"], whole["target"]) == ("alice/rl", "alice/base@main")
    assert whole["recipe"]["hookpoint"] == "layers.2"
    alone = told("--source", "alice/runs@main:checkpoint-10")
    assert (alone["source"], alone["target"]) == ("alice/base+alice/runs@main:checkpoint-10", "alice/base")
    named = told("--source", "tiny-r1+alice/runs:checkpoint-10")
    assert named["source"] == "resa-hub/tiny-r1+alice/runs:checkpoint-10"
    asked = told("--source", "alice/rl")
    assert (asked["code"], asked["error"]["kind"]) == (2, "usage") and "whole model" in asked["error"]["message"]
    gone = told("--source", "alice/gone", "--target", "alice/base")
    assert gone["code"] == 3 and gone["error"]["message"].startswith("alice/gone: no such repository")
    assert not list(cache.rglob("*.safetensors"))


# --- the way to the verdict


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target", "method", "recorded"),
    [
        ("./whole", "./base", "feature-diff", "./whole"),
        ("tiny-r1+./lora", None, "sae-tuning", "resa-hub/tiny-r1+./lora"),
        ("./lora", None, "feature-diff", "resa-hub/tiny-r1+./lora"),
    ],
)
def test_from_own_model_to_verdict(
    source: str, target: str | None, method: str, recorded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Extracted, attached with proof, judged on a file with columns of its own, made again."""
    settings = [*QUICK, "rollouts.new_tokens=64", "lora.rank=8"]
    adapter, new = extract(
        source, target=target, method=method, workspace=".", settings=settings, progress=Progress(quiet=True), **DATA
    )
    manifest = adapter.manifest
    assert new and manifest.source == recorded
    on = target or "tiny-r1"
    assert run(["attach", manifest.name, "--target", on, "--prompt", "7*7-8+6-4="]) == 0
    words = ["eval", manifest.name, "--target", on, "--benchmark", "answer-tag=./sums.jsonl"]
    capsys.readouterr()
    judged = json.loads(
        out(capsys, *words, "--problems", "20", "--samples", "1", "--controls", "1", "--new-tokens", "72", "--json")
    )
    assert judged["verdict"] and {"base", "source", "adapter"} <= {arm["role"] for arm in judged["arms"]}
    assert json.loads(out(capsys, "reproduce", manifest.reference, "--json"))["same"] is True
    kept = Path(recorded.rpartition("+")[2])
    kept.rename("elsewhere")  # as on another machine, which has the adapter but not the source
    for dry in (["--dry-run"], []):
        assert run([*words, "--problems", "20", "--new-tokens", "72", *dry]) == 3
        assert "or without it: --arms random" in capsys.readouterr().err
    assert run([*words, "--problems", "20", "--arms", "random", "--new-tokens", "72", "--dry-run"]) == 0
