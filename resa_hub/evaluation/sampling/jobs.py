"""One engine run: the arms it serves, the prompts it is given, and the samples it writes."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...core.errors import HubError, RunFailed
from ...core.machine_errors import machine_error
from ...core.progress import Advance, waiting
from ...core.quantities import count
from ...core.strict import canonical_digest
from ...data.snapshots import Files
from ...engine.generation import base as generation
from ...engine.generation.base import Engine, Finished, Key
from ..arms import NEGATED, RANDOM, SOURCE, SOURCE_MODEL, Arm
from ..benchmarks.base import Problem
from .engines import Engines
from .samples import SampleSet, SampleStore

TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json")
TEMPLATE = ("chat_template.jinja", "tokenizer_config.json")


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

    @property
    def questions(self) -> tuple[str, ...]:
        return tuple(problem.question for problem in self.problems)

    def at(self, temperature: float) -> generation.Sampling:
        """What decides the tokens at a temperature; nothing is drawn at 0."""
        top_p, seed = (self.top_p, self.seed) if temperature else (1.0, 0)
        return generation.Sampling(temperature=temperature, top_p=top_p, new_tokens=self.new_tokens, seed=seed)


class MissingSample(NamedTuple):
    """A sample that has to be generated."""

    temperature: float
    arm: str
    key: Key


class EngineJob(NamedTuple):
    """What is missing of the arms of one base: the work of one engine."""

    base: Files
    arms: list[Arm]
    missing: list[MissingSample]
    """Arm by arm."""
    longest: int
    """Tokens of the longest prompt."""


def sample_set(config: SamplingConfig, arm: Arm, temperature: float) -> SampleSet:
    """The key of an arm's samples; `config.engines` are settled."""
    sampling = config.at(temperature)
    settings = {
        "engine": config.engines.name,
        "dtype": config.engines.dtype,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "new_tokens": sampling.new_tokens,
        "seed": sampling.seed,
        "prompt": prompt_digest(arm.base, arm.template),
    }
    return SampleSet(arm.identity, config.benchmark, settings)


def run_engine(config: SamplingConfig, job: EngineJob, store: SampleStore, advance: Advance) -> None:
    """One engine from its start to its end: load, self-check, samples, self-check. What was generated before a failed
    second check is thrown away.

    Raises `RunFailed` where the engine dies, with the number of samples that are kept, and what the engine raises.
    """
    kept = 0

    def count(samples: int) -> None:
        nonlocal kept
        kept += samples
        advance(samples)

    prompts = {arm.name: _prompts(config, arm) for arm in job.arms}
    try:
        _generate(config, job, prompts, store, count)
    except HubError:
        raise
    except Exception as error:
        raise RunFailed(
            f"the engine {config.engines.name} died: {_reason(error)}",
            f"run the same command again: {kept:,} new samples are kept, it goes on behind them",
        ) from error


def _generate(
    config: SamplingConfig,
    job: EngineJob,
    prompts: Mapping[str, Mapping[str, list[int]]],
    store: SampleStore,
    advance: Advance,
) -> None:
    """prompts: arm -> problem id -> token ids."""
    arms = {arm.name: arm for arm in job.arms}
    sets = {
        (temperature, name): sample_set(config, arms[name], temperature)
        for temperature, name in dict.fromkeys((sample.temperature, sample.arm) for sample in job.missing)
    }
    mark = store.last()
    with contextlib.closing(_open_engine(config, job)) as engine:
        store.put_fact(engine_fact(config, job.base), engine.about)
        _check_arms(config, job, engine, store)
        for temperature in dict.fromkeys(sample.temperature for sample in job.missing):
            missing = [sample for sample in job.missing if sample.temperature == temperature]
            requests = [generation.Job(arm, key, prompts[arm][key[0]]) for _, arm, key in missing]
            for batch in engine.run(requests, config.at(temperature)):
                for name in {finished.arm for finished in batch}:
                    _keep(config, sets[temperature, name], [f for f in batch if f.arm == name], store)
                advance(len(batch))
        if job.missing:
            try:
                _self_check(config, job, engine)
            except HubError:
                store.discard(mark, sets.values())
                raise


def _open_engine(config: SamplingConfig, job: EngineJob) -> Engine:
    engine_config = generation.EngineConfig(
        longest=job.longest + config.new_tokens,
        dtype=config.engines.dtype,
        tensor_parallel=config.engines.tensor_parallel,
        lora=config.engines.lora,
        gpu_memory=config.engines.gpu_memory,
        tolerance=config.engines.tolerance,
    )
    folders = {arm.name: arm.folder for arm in job.arms}
    return generation.open_engine(config.engines.name, job.base, folders, engine_config)


def _check_arms(config: SamplingConfig, job: EngineJob, engine: Engine, store: SampleStore) -> None:
    """The self-check of all adapters, kept; raises `RunFailed` where one is idle that may not be."""
    texts, identical = _probe_texts(config, job), _self_check(config, job, engine)
    for arm in job.arms:
        if arm.name in texts:
            store.put_fact(check_fact(config, arm), {"identical": arm.name in identical})
    identical_arms(config, job.arms, store)


def _self_check(config: SamplingConfig, job: EngineJob, engine: Engine) -> set[str]:
    """`Engine.check` of all arms that bring an adapter."""
    texts = _probe_texts(config, job)
    listed = count(sum(map(len, texts.values())), "text")
    with waiting(f"self-check of {count(len(texts), 'adapter')}", listed):
        return engine.check(texts)


def _probe_texts(config: SamplingConfig, job: EngineJob) -> dict[str, tuple[str, ...]]:
    """Arm -> texts on which its adapter has to change a logit; the first questions where it brings none."""
    return {arm.name: arm.texts or config.questions[:4] for arm in job.arms if arm.folder}


def _keep(config: SamplingConfig, samples: SampleSet, finished: Sequence[Finished], store: SampleStore) -> None:
    problems = {problem.id: problem for problem in config.problems}
    store.add(samples, problems, [(one.key, one.sample) for one in finished])


def _reason(error: Exception) -> str:
    explained = machine_error(error)
    if explained:
        return explained.message
    return f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"


def _prompts(config: SamplingConfig, arm: Arm) -> dict[str, list[int]]:
    """Problem id -> token ids."""
    ids = [problem.id for problem in config.problems]
    return dict(zip(ids, rendered(arm.base, arm.template, config.questions), strict=True))


@functools.lru_cache(maxsize=16)
def rendered(base: Files, template: str | None, questions: tuple[str, ...]) -> list[list[int]]:
    """The token ids of every question as the base is asked it."""
    from ...engine.model.loading import load_tokenizer
    from ...engine.model.tokens import prompt

    tokenizer = load_tokenizer(base)
    return [prompt(tokenizer, template, question) for question in questions]


@functools.lru_cache(maxsize=64)
def prompt_digest(base: Files, template: str | None) -> str:
    """Of all that makes token ids of a question."""
    return canonical_digest([base.digest_of(*TOKENIZER), base.digest_of(*TEMPLATE), template])


def check_fact(config: SamplingConfig, arm: Arm) -> str:
    """The name under which the store keeps the self-check of an arm's adapter."""
    parts = [arm.identity, list(arm.texts), config.engines.name, config.engines.dtype]
    return "check " + canonical_digest(parts)


def engine_fact(config: SamplingConfig, base: Files) -> str:
    """The name under which the store keeps what the engine says of itself."""
    return "engine " + canonical_digest([config.engines.name, config.engines.dtype, base.weights_digest])


def identical_arms(config: SamplingConfig, arms: Sequence[Arm], store: SampleStore) -> set[str]:
    """The arms whose adapter changes no logit, as the self-check found; raises `RunFailed` where that is a control or
    the source, which would control nothing.
    """
    identical = set()
    for arm in arms:
        check = store.get_fact(check_fact(config, arm)) if arm.folder else None
        if not check or not check.get("identical"):
            continue
        if arm.role in (RANDOM, NEGATED, SOURCE, SOURCE_MODEL):
            raise RunFailed(
                f"the arm {arm.name!r} changes no logit, so it controls nothing",
                "leave it out: --arms, or --controls 0",
            )
        identical.add(arm.name)
    return identical
