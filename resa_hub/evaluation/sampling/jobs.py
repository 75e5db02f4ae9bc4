"""One engine run: the arms it serves, the prompts it is given, and the samples it writes."""

import functools
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ...core.errors import HubError, RunFailed, Usage, did_you_mean
from ...core.machine_errors import explain
from ...core.progress import Advance
from ...core.strict import canonical_digest
from ...data.snapshots import Files
from ...engine.generation.base import Key
from ..arms import Arm
from ..benchmarks.base import Problem
from .samples import SampleSet, SampleStore

ENGINES = ("auto", "transformers", "vllm")
DTYPES = ("auto", "float32", "bfloat16", "float16")
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json")
TEMPLATE = ("chat_template.jinja", "tokenizer_config.json")


class Engines(NamedTuple):
    """What samples are generated with."""

    name: str = "auto"
    """transformers, vllm, or auto: vLLM where it is installed and a GPU is there."""
    dtype: str = "auto"
    """float32 on a CPU, else that of the model."""
    tensor_parallel: int = 1
    """GPUs that share one model (vLLM)."""
    workers: int = 1
    """Processes that share the samples, each with an engine of its own and, where there are GPUs, `tensor_parallel` of
    them.
    """
    lora: str = "auto"
    """merged, beside or auto."""

    def settled(self, base: Files) -> "Engines":
        """`auto` decided, for it is part of what a sample depends on; raises `Usage`."""
        if self.tensor_parallel < 1 or self.workers < 1 or self.lora not in ("auto", "merged", "beside"):
            raise Usage(
                "workers and GPUs are counts; adapters run merged, beside or auto", "--workers 2 --tensor-parallel 1"
            )
        if self.name not in ENGINES:
            raise Usage(f"no engine is called {self.name!r}", did_you_mean(self.name, list(ENGINES)))
        if self.dtype not in DTYPES:
            raise Usage(f"dtype {self.dtype!r} is not known", did_you_mean(self.dtype, list(DTYPES)))
        gpu = shutil.which("nvidia-smi") is not None and Path("/dev/nvidia0").exists()
        name = ("vllm" if gpu and find_spec("vllm") else "transformers") if self.name == "auto" else self.name
        own = str(base.config.get("dtype") or base.config.get("torch_dtype") or "float32")
        return self._replace(name=name, dtype=(own if gpu else "float32") if self.dtype == "auto" else self.dtype)


class SamplingConfig(NamedTuple):
    """How every arm is sampled."""

    benchmark: str
    problems: Sequence[Problem]
    samples: int
    greedy: bool
    temperature: float
    top_p: float
    new_tokens: int
    seed: int
    engines: Engines


class EngineJob(NamedTuple):
    """What is missing of the arms of one base: the work of one engine."""

    base: Files
    arms: list[Arm]
    jobs: list[tuple[float, str, Key]]
    """(temperature, arm, key), arm by arm."""
    longest: int
    """Tokens of the longest prompt."""


def sample_set(asked: SamplingConfig, arm: Arm, temperature: float) -> SampleSet:
    """The key of an arm's samples; `asked.engines` are settled."""
    settings = {
        "engine": asked.engines.name,
        "dtype": asked.engines.dtype,
        "temperature": temperature,
        "top_p": asked.top_p if temperature else 1.0,
        "new_tokens": asked.new_tokens,
        "seed": asked.seed if temperature else 0,
        "prompt": _prompt_rule(arm.base, arm.template),
    }
    return SampleSet(arm.identity, asked.benchmark, settings)


def run_engine(asked: SamplingConfig, part: EngineJob, store: SampleStore, advance: Advance) -> None:
    """One engine from its start to its end: load, self-check, samples, self-check. What does not pass the second check
    is thrown away.
    """
    from ...engine.generation.base import EngineConfig, Job, Sampling, open_engine

    arms, problems = {arm.name: arm for arm in part.arms}, {p.id: p for p in asked.problems}
    sets = {
        (t, arm.name): sample_set(asked, arm, t)
        for arm in part.arms
        for t in {t for t, name, _ in part.jobs if name == arm.name}
    }
    ids = {
        arm.name: dict(
            zip(problems, rendered(arm.base, arm.template, tuple(p.question for p in asked.problems)), strict=True)
        )
        for arm in part.arms
    }
    texts = {arm.name: arm.texts or tuple(p.question for p in asked.problems[:4]) for arm in part.arms if arm.folder}
    means = EngineConfig(
        part.longest + asked.new_tokens, asked.engines.dtype, asked.engines.tensor_parallel, asked.engines.lora
    )
    kept, mark = 0, store.last()
    try:
        engine = open_engine(asked.engines.name, part.base, {name: arm.folder for name, arm in arms.items()}, means)
        try:
            store.put_fact(_about(asked, part.base), engine.about)
            identical = engine.check(texts)
            for name in texts:
                store.put_fact(_check(asked, arms[name]), {"identical": name in identical})
            _idle(asked, part.arms, store)
            for temperature in dict.fromkeys(t for t, _, _ in part.jobs):
                jobs = [Job(name, key, ids[name][key[0]]) for t, name, key in part.jobs if t == temperature]
                how = Sampling(
                    temperature, asked.top_p if temperature else 1.0, asked.new_tokens, asked.seed if temperature else 0
                )
                for done in engine.run(jobs, how):
                    for name in {one.arm for one in done}:
                        store.add(
                            sets[temperature, name],
                            problems,
                            [(one.key, one.sample) for one in done if one.arm == name],
                        )
                    kept += len(done)
                    advance(len(done))
            if part.jobs:
                try:
                    engine.check(texts)
                except HubError:
                    store.discard(mark, sets.values())
                    raise
        finally:
            engine.close()
    except HubError:
        raise
    except Exception as error:
        found = explain(error)
        what = (
            found.message
            if found
            else f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
        )
        hint = f"run the same command again: {kept:,} new samples are kept, it goes on behind them"
        raise RunFailed(f"the engine {asked.engines.name} died: {what}", hint) from error


@functools.lru_cache(maxsize=16)
def rendered(base: Files, template: str | None, questions: tuple[str, ...]) -> list[list[int]]:
    """The token ids of every question as the base is asked it."""
    from ...engine.model.loading import load_tokenizer
    from ...engine.model.tokens import prompt

    tokenizer = load_tokenizer(base)
    return [prompt(tokenizer, template, question) for question in questions]


@functools.lru_cache(maxsize=64)
def _prompt_rule(base: Files, template: str | None) -> str:
    """Of all that makes token ids of a question."""
    return canonical_digest([base.digest_of(*TOKENIZER), base.digest_of(*TEMPLATE), template])


def _check(asked: SamplingConfig, arm: Arm) -> str:
    return "check " + canonical_digest([arm.identity, list(arm.texts), asked.engines.name, asked.engines.dtype])


def _about(asked: SamplingConfig, base: Files) -> str:
    return "engine " + canonical_digest([asked.engines.name, asked.engines.dtype, base.weights_digest])


def _idle(asked: SamplingConfig, arms: Sequence[Arm], store: SampleStore) -> set[str]:
    """The arms that change no logit; raises `RunFailed` where that is a control or the source, which would control
    nothing.
    """
    found = {
        arm.name: arm for arm in arms if arm.folder and (store.get_fact(_check(asked, arm)) or {}).get("identical")
    }
    for arm in found.values():
        if arm.role in ("random", "negated", "source", "source-model"):
            raise RunFailed(
                f"the arm {arm.name!r} changes no logit, so it controls nothing",
                "leave it out: --arms, or --controls 0",
            )
    return set(found)
