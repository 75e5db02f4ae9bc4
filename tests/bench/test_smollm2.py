"""The plumbing of bench/smollm2 on a tiny random Llama: every step runs, is recorded, and is not run twice."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bench.smollm2 import experiment, task, workspace
from bench.smollm2.arms import Arm
from bench.smollm2.package import TEMPLATE
from resa_hub.core.progress import Progress
from tests.helpers.models import random_model

SMALL = workspace.Size(
    sloppy=24,
    clean=24,
    train=24,
    dev=8,
    test=10,
    rollouts=16,
    latents=32,
    k=4,
    sae_steps=3,
    epochs=1,
    layer=1,
    samples=1,
    forced=4,
)
ARMS = (
    Arm("features-s0", "feature-diff", ("features=4",)),
    Arm("logits", "logit-distill"),
    Arm("sae-tuning", "sae-tuning"),
)


def tiny(folder: Path) -> None:
    """A random Llama of 3 layers with a tokenizer of single characters, in place of the pretrained model."""
    words = ["<unk>", "<s>", "</s>", *"0123456789+-=\n"]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"<s>|</s>|[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    random_model("llama").save_pretrained(folder)


def test_chains_are_right_and_splits_do_not_overlap() -> None:
    questions: dict[str, set[str]] = {}
    for split in task.SPLITS:
        found = list(islice(task.problems(split, 0), 300))
        questions[split] = {p.question for p in found}
        assert len(questions[split]) == 300 and all(eval(p.question) == int(p.answer) for p in found)
    assert not questions["test"] & (questions["train"] | questions["dev"])
    for clean in (True, False):
        for question, chain in task.chains(50, 1, clean):
            first, *rest = chain.split("=")
            assert eval(first) == int(rest[0].replace("-", "+").partition("+")[0])
            assert chain.rpartition("=")[2] == str(eval(question))
            assert not clean or chain.count("=") == task.OPERATIONS


@pytest.mark.slow
def test_the_whole_experiment_runs_and_is_not_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = experiment.run(tmp_path, SMALL, Progress(quiet=True), arms=ARMS, base=tiny, jobs=2)
    assert [(e["adapter"], e["target"], e["fit"]) for e in found] == [
        (f"{arm.name}@0.1.0", target, fit)
        for arm in ARMS
        for target, fit in ((workspace.TARGET, "exact"), (workspace.SIBLING, "kin"))
    ]
    assert [c["against"] for c in found[0]["comparisons"]] == ["base", "random-1"]
    assert (tmp_path / "results.md").read_text().count("| features-s0 |") == 2
    assert str(tmp_path) not in (tmp_path / "adapters/features-s0/0.1.0/resa.json").read_text()
    before = json.loads((tmp_path / "steps.json").read_text())
    capfd.readouterr()
    assert experiment.run(tmp_path, SMALL, Progress(quiet=True), arms=ARMS, base=tiny) == found
    assert json.loads((tmp_path / "steps.json").read_text()) == before and not capfd.readouterr().out


def test_a_model_that_was_cut_off_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / f".{workspace.BASE}").mkdir(parents=True)
    (tmp_path / "models" / f".{workspace.BASE}" / "model.safetensors").write_bytes(b"cut")
    experiment.run(tmp_path, replace(SMALL, sloppy=8, clean=8), Progress(quiet=True), only_build=True, base=tiny)
    assert workspace.files(workspace.BASE).config["model_type"] == "llama"
    assert not list((tmp_path / "models").glob(".*"))
