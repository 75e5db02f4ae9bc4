"""The transformers engine: one load for base and all arms, in two ways that say the same; the self-check; which way is
taken.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from resa_hub.core.errors import MissingExtra, RunFailed
from resa_hub.data.tiny import task
from resa_hub.engine.generation.base import EngineConfig, Job, Sampling, open_engine
from resa_hub.engine.generation.sampling import choose
from resa_hub.engine.model.loading import load_base, load_tokenizer
from resa_hub.engine.model.lora import load_lora
from tests.helpers.models import LORA, tiny, write_lora

TEXTS = ("1+1=", "7*7-8+6-4=")
HOW = Sampling(0.6, 1.0, 40, 3)


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | None]:
    """Other ranks, other layers, and a name that no module may have."""
    folder = tmp_path_factory.mktemp("arms")
    return {
        "base": None,
        "source@0.1.0": tiny("tina-tiny").folder,
        "small": write_lora(folder / "small", seed=1),
        "last layer": write_lora(folder / "last", LORA, [3], seed=2),
    }


@pytest.fixture(scope="module")
def jobs(arms: dict[str, Path | None]) -> list[Job]:
    tokenizer = load_tokenizer(tiny("tiny-r1"))
    texts = [p.text for p in task.problems(8, "test", 0)]
    return [Job(arm, (text, n), list(tokenizer(text)["input_ids"])) for text in texts for n in range(2) for arm in arms]  # pyright: ignore


def engine(arms: dict[str, Path | None], lora: str = "auto", dtype: str = "float32") -> Any:
    return open_engine("transformers", tiny("tiny-r1"), arms, EngineConfig(120, dtype=dtype, lora=lora))


def drawn(one: Any, jobs: list[Job], how: Sampling = HOW) -> dict[Any, Any]:
    return {(f.arm, f.key): f.sample for batch in one.run(jobs, how) for f in batch}


@pytest.mark.slow
def test_both_ways_give_the_same_samples_and_base_is_the_base_model(
    arms: dict[str, Path | None], jobs: list[Job]
) -> None:
    merged, beside = drawn(engine(arms, "merged"), jobs), drawn(engine(arms, "beside"), jobs)
    assert merged == beside and len(merged) == len(jobs)
    for arm, folder in arms.items():
        own = [job for job in jobs if job.arm == arm]
        assert drawn(engine({arm: folder}), own) == {key: sample for key, sample in merged.items() if key[0] == arm}
    assert len({tuple(s.text for (arm, _), s in sorted(merged.items(), key=str) if arm == one) for one in arms}) == len(
        arms
    )


def test_mixed_logits_are_those_of_peft(arms: dict[str, Path | None], jobs: list[Job]) -> None:
    """Base and every adapter in one batch, each row against PEFT with that adapter alone."""
    one, ids = engine(arms, "beside"), torch.tensor([jobs[0].prompt] * len(arms))
    for layer in one.wrapped_layers:
        layer.wrap()
    with torch.inference_mode():
        mixed = one.peft(input_ids=ids, adapter_names=[one.adapter_names.get(arm, "__base__") for arm in arms]).logits
        for row, folder in zip(mixed, arms.values(), strict=True):
            model = load_base(tiny("tiny-r1"))
            assert torch.allclose(
                row, (load_lora(model, folder) if folder else model)(input_ids=ids[:1]).logits[0], atol=1e-4
            )


def test_the_self_check_passes_and_names_what_changes_nothing(arms: dict[str, Path | None], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from resa_hub.adapter.layout import WEIGHTS

    vanishing = write_lora(tmp_path / "vanishing")
    save_file(
        {name: 1e-25 * t for name, t in load_file(vanishing / WEIGHTS).items()},
        vanishing / WEIGHTS,
        metadata={"format": "pt"},
    )
    one = engine(arms | {"vanishing": vanishing})
    assert one.check(dict.fromkeys(one.adapter_names, TEXTS)) == {"vanishing"}
    before = {name: t.clone() for name, t in one.model.state_dict().items()}
    one._merge("small")
    assert any(not torch.equal(t, before[name]) for name, t in one.model.state_dict().items())
    one._restore()
    assert all(torch.equal(t, before[name]) for name, t in one.model.state_dict().items())


def test_a_base_that_an_adapter_has_changed_stops_the_run(arms: dict[str, Path | None]) -> None:
    """An engine that merges for good, as `weight += delta` would."""
    one = engine(arms)
    one._restore = lambda: one.original_weights.clear()
    with pytest.raises(RunFailed, match="the base model has changed while adapters were on it") as caught:
        one.check(dict.fromkeys(one.adapter_names, TEXTS))
    assert "none of its samples was kept" in caught.value.hint


def test_the_way_is_measured_where_arms_are_small_and_known_where_they_fill_a_batch(
    arms: dict[str, Path | None], jobs: list[Job]
) -> None:
    from resa_hub.engine.generation import transformers_engine

    one, timed = engine(arms), []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            transformers_engine, "_seconds", lambda work: timed.append(len(timed)) or [2.0, 1.0][len(timed) - 1]
        )
        queues = {arm: [job for job in jobs if job.arm == arm] for arm in arms}
        assert one._choose_mode(queues, HOW) == "beside" and len(timed) == 2
        one.batch_rows = 16
        assert one._choose_mode(queues, HOW) == "merged" and len(timed) == 2
        assert one._choose_mode({"base": queues["base"]}, HOW) == "merged"
    assert engine(arms, dtype="bfloat16").mode == "beside"


def test_an_engine_that_is_not_installed_says_which_extra(
    arms: dict[str, Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra) as caught:
        open_engine("vllm", tiny("tiny-r1"), arms, EngineConfig(120))
    assert caught.value.exit_code == 8 and "vllm" in caught.value.hint


def test_the_nucleus_holds_the_likeliest_tokens_until_top_p() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.05, 0.35]]).log().repeat(3, 1)
    assert choose(logits, 1.0, torch.tensor([0.0, 0.58, 0.999]), top_p=0.8).tolist() == [
        1,
        1,
        3,
    ]  # 0.5 and 0.35 stay, in the order of the vocabulary
    assert choose(logits, 1.0, torch.tensor([0.05, 0.55, 0.999]), top_p=1.0).tolist() == [0, 1, 3]
    assert choose(logits, 1.0, torch.tensor([0.0, 0.5, 0.999]), top_p=0.01).tolist() == [1, 1, 1]
