"""The lines that a reader copies from a card or a page do what they say."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resa_hub.adapter import usage
from resa_hub.adapter.fit import VLLM_RANKS
from resa_hub.adapter.manifest import Manifest, read_manifest
from resa_hub.cli.main import run
from tests.helpers.adapters import recipe_of
from tests.helpers.commands import ROOT

NAME = "tina-tiny-feature-diff-l2"
FOLDER = ROOT / f"adapters/{NAME}/0.1.0"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def manifest(rank: int = 32, **base: Any) -> Manifest:
    """The committed adapter's, with another rank or another base."""
    made = read_manifest(FOLDER)
    recipe = recipe_of(made)
    recipe = msgspec.structs.replace(recipe, lora=msgspec.structs.replace(recipe.lora, rank=rank))
    return msgspec.structs.replace(made, recipe=recipe, base=msgspec.structs.replace(made.base, **base))


def commands(code: str) -> list[list[str]]:
    return [shlex.split(line) for line in code.replace("\\\n", " ").splitlines()]


@pytest.mark.slow
def test_lines_for_peft_and_attach_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the tiny family: exported as the vLLM snippet says, loaded as the PEFT snippet says, attached."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "adapters", tmp_path / "adapters")
    _, attach, peft, vllm = usage.snippets(read_manifest(FOLDER))
    export = commands(vllm.code)[0]
    assert export[0] == "resa-hub" and run(export[1:]) == 0
    found: dict[str, Any] = {}
    exec(compile(peft.code, "snippet", "exec"), found)
    model = found["model"]
    assert type(model).__name__ == "PeftModelForCausalLM" and model.peft_config["default"].r == 32
    assert any(weight.abs().sum() > 0 for name, weight in model.named_parameters() if "lora_B" in name)
    capsys.readouterr()
    (line,) = commands(attach.code)
    assert line[:2] == ["resa-hub", "attach"] and run([*line[1:-1], "7*7-8+6-4="]) == 0
    assert "<answer>" in capsys.readouterr().out


@pytest.mark.parametrize("rank", [1, 2, 8, 9, 32, 300, 512])
def test_rank_for_vllm_is_the_smallest_that_it_takes(rank: int) -> None:
    vllm = usage.snippets(manifest(rank, id="o/base", revision=COMMIT))[3]
    export, serve = commands(vllm.code)
    served = int(serve[serve.index("--max-lora-rank") + 1])
    assert served in VLLM_RANKS and served >= rank and not [r for r in VLLM_RANKS if rank <= r < served]
    assert serve[:5] == ["vllm", "serve", "o/base", "--revision", COMMIT]
    assert serve[serve.index("--lora-modules") + 1] == f"{NAME}={export[-1]}"


def test_what_vllm_cannot_serve_is_merged() -> None:
    merge, serve = commands(usage.snippets(manifest(600, id="o/base"))[3].code)
    assert merge[-2:] == ["--merge", serve[-1]] and "enable-lora" not in serve


def test_place_and_commit_stand_in_the_lines() -> None:
    pull, attach, peft, _ = usage.snippets(manifest(id="o/base", revision=COMMIT), "me/mine")
    assert pull.code == "resa-hub pull hf:me/mine@v0.1.0" and usage.UNKNOWN_PLACE not in pull.about
    assert f"--target o/base@{COMMIT}" in attach.code
    assert f'from_pretrained("o/base", revision="{COMMIT}")' in peft.code
    assert 'PeftModel.from_pretrained(base, "me/mine", revision="v0.1.0")' in peft.code
    unknown = usage.snippets(manifest(id="o/base"))
    assert "hf:OWNER/NAME@v0.1.0" in unknown[0].code and "not recorded" in unknown[0].about
    assert '"plain-folder"' in unknown[2].code


@pytest.mark.parametrize("hostile", ['x"; rm -rf ~; echo "', "a/b\n```\n<script>", "./x`id`", "", "$(id)", "o/b;id"])
def test_a_base_that_is_no_name_is_not_in_the_lines(hostile: str) -> None:
    for snippet in usage.snippets(manifest(id=hostile)):
        assert not hostile or hostile not in snippet.code
        assert not re.search(r"rm -rf|<script>|\$\(id\)|;id", snippet.code + snippet.about)
    assert "BASE" in usage.snippets(manifest(id=hostile))[1].code


def test_a_local_base_is_one_word_of_the_shell() -> None:
    _, attach, peft, _ = usage.snippets(manifest(id='./my "models"/base $x'))
    (line,) = commands(attach.code)
    assert line[line.index("--target") + 1] == './my "models"/base $x'
    assert compile(peft.code, "snippet", "exec")


def test_licence_is_told_or_said_to_be_unknown() -> None:
    ours, stranger = manifest(), manifest(id="o/base")
    assert "Apache-2.0" in usage.license_sentence(ours) and "none is recorded" in usage.license_sentence(ours)
    assert "none is recorded" in usage.license_sentence(stranger) and "o/base" in usage.license_sentence(stranger)
    for license_, told in (("mit", True), ("<script>", False)):
        sentence = usage.license_sentence(msgspec.structs.replace(stranger, license=license_))
        assert (sentence == f"Licence: {license_}.") == told
