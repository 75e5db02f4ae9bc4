"""The samples of all arms: read where they are kept, generated where they are missing. Nothing heavy is imported when
nothing is missing.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from ...core.errors import RunFailed
from ...core.progress import Progress, waiting
from ...core.strict import canonical_digest
from ...engine.generation.base import Key, Sample
from ..arms import NEGATED, PROMPT, Arm
from .context import check_context
from .jobs import (
    EngineJob,
    MissingSample,
    SamplingConfig,
    check_fact,
    engine_fact,
    identical_arms,
    prompt_digest,
    rendered,
    run_engine,
    sample_set,
)
from .samples import SampleStore

VLLM_NOTE = (
    "vLLM: arms share a seed per problem and sample, which couples them less than common uniforms do; "
    "intervals are wider for it, not wrong"
)
Samples = dict[str, dict[Key, Sample]]
"""arm -> samples."""


class CollectedSamples(NamedTuple):
    samples: Samples
    """At the temperature of the configuration."""
    greedy: Samples
    sets: dict[str, str]
    """arm -> digest of its set in the sample store."""
    prompts: dict[str, str]
    """arm -> sha256 over the token ids of all its prompts."""
    identical: set[str]
    """Arms whose adapter changes no logit."""
    left_out: dict[str, str]
    """Arms that could not be asked, and why."""
    notes: list[str]
    engine: dict[str, str]


def collect(config: SamplingConfig, arms: Sequence[Arm], store: SampleStore, progress: Progress) -> CollectedSamples:
    """Every sample of every arm. Raises `DoesNotFit` where prompts and answers exceed the context, `RunFailed` where
    the self-check fails or the engine dies; what was finished by then is kept.
    """
    config = config._replace(engines=config.engines.settled(arms[0].base))
    make_controls(arms)
    prompts = {arm.name: _prompt_facts(config, arm, store) for arm in arms}
    left_out = {name: facts["error"] for name, facts in prompts.items() if "error" in facts}
    arms = [arm for arm in arms if arm.name not in left_out]
    longest = {arm.name: prompts[arm.name]["longest"] for arm in arms}
    digests = {arm.name: prompts[arm.name]["digest"] for arm in arms}
    for arm in arms:
        check_context(arm.base, config.new_tokens, longest[arm.name])
    samples, greedy = _complete(config, arms, longest, store, progress)
    unnamed_engine = {"name": config.engines.name, "dtype": config.engines.dtype}
    return CollectedSamples(
        samples=samples,
        greedy=greedy,
        sets={arm.name: sample_set(config, arm, config.temperature).digest for arm in arms},
        prompts=digests,
        identical=identical_arms(config, arms, store),
        left_out=left_out,
        notes=_notes(config, arms, digests, left_out, store),
        engine=store.get_fact(engine_fact(config, arms[0].base)) or unnamed_engine,
    )


def _complete(
    config: SamplingConfig, arms: Sequence[Arm], longest: Mapping[str, int], store: SampleStore, progress: Progress
) -> tuple[Samples, Samples]:
    """(samples, greedy samples) of all arms, generated where they are missing.

    Raises `RunFailed` where some are missing even then.
    """
    for _ in range(2):  # a damaged sample shows only when it is read, and is missing then
        for job in missing_jobs(config, arms, store, longest):
            _run(config, job, store, progress)
        samples = _read(config, arms, store, config.temperature, config.samples)
        greedy = _read(config, arms if config.greedy else (), store, 0.0, 1)
        problems = len(config.problems)
        drawn_complete = all(len(table) == problems * config.samples for table in samples.values())
        if drawn_complete and all(len(table) == problems for table in greedy.values()):
            return samples, greedy
    raise RunFailed(
        "the engine did not give all samples that it was asked for",
        "run it again, with --engine transformers if this was another",
    )


def _read(config: SamplingConfig, arms: Sequence[Arm], store: SampleStore, temperature: float, count: int) -> Samples:
    return {arm.name: store.read(sample_set(config, arm, temperature), config.problems, count) for arm in arms}


def missing_jobs(
    config: SamplingConfig, arms: Sequence[Arm], store: SampleStore, longest: Mapping[str, int]
) -> list[EngineJob]:
    """What has to be generated, or checked, one job a base; empty when everything is there. longest: arm -> tokens of
    its longest prompt.
    """
    by_base: dict[str, list[Arm]] = {}
    missing: dict[str, list[MissingSample]] = {}
    for arm in arms:
        missing[arm.name] = missing_samples(config, arm, store)
        unchecked = arm.folder is not None and store.get_fact(check_fact(config, arm)) is None
        if missing[arm.name] or unchecked:
            by_base.setdefault(arm.base.weights_digest, []).append(arm)
    return [
        EngineJob(
            base=group[0].base,
            arms=group,
            missing=[sample for arm in group for sample in missing[arm.name]],
            longest=max(longest[arm.name] for arm in group),
        )
        for group in by_base.values()
    ]


def missing_samples(config: SamplingConfig, arm: Arm, store: SampleStore) -> list[MissingSample]:
    missing = []
    temperatures = [(config.temperature, config.samples)] + ([(0.0, 1)] if config.greedy else [])
    for temperature, count in temperatures:
        present = store.present(sample_set(config, arm, temperature), config.problems)
        keys = [(problem.id, number) for problem in config.problems for number in range(count)]
        missing += [MissingSample(temperature, arm.name, key) for key in keys if key not in present]
    return missing


def _run(config: SamplingConfig, job: EngineJob, store: SampleStore, progress: Progress) -> None:
    """One job, by one engine or by several processes with an engine each."""
    workers = config.engines.workers
    label = f"{job.base.id.rpartition('/')[2]}, {len(job.arms)} arms"
    if workers > 1:
        label += f", {workers} processes"
    with progress.stage(label, len(job.missing), "samples") as advance:
        if workers > 1 and len(job.missing) >= workers:
            from .workers import share

            share(config, job, store.path.parent, advance, progress.quiet)
        else:
            run_engine(config, job, store, advance)


def make_controls(arms: Sequence[Arm]) -> None:
    """The folders of controls that are made on the fly, where they are missing."""
    for arm in arms:
        if arm.origin and arm.folder and not arm.folder.exists():
            from ...engine.model.controls import negated, random_like

            with waiting(f"making the control {arm.name}"):
                if arm.role == NEGATED:
                    negated(arm.origin, arm.folder)
                else:
                    random_like(arm.origin, int(arm.name.rpartition("-")[2]), arm.folder)


def _prompt_facts(config: SamplingConfig, arm: Arm, store: SampleStore) -> dict[str, Any]:
    """{digest, longest} of the arm's prompts, or the {error} that keeps a prompt-only arm from being asked; kept, so
    that a finished run loads nothing.
    """
    questions = [[problem.id, problem.question] for problem in config.problems]
    name = "prompts " + canonical_digest([prompt_digest(arm.base, arm.template), questions])
    facts = store.get_fact(name)
    if facts is None:
        try:
            ids = rendered(arm.base, arm.template, config.questions)
            facts = {"digest": "sha256:" + sha256(repr(ids).encode()).hexdigest(), "longest": max(map(len, ids))}
        except RunFailed as error:
            if arm.role != PROMPT:
                raise
            facts = {"error": error.message}
        store.put_fact(name, facts)
    return facts


def _notes(
    config: SamplingConfig,
    arms: Sequence[Arm],
    prompts: Mapping[str, str],
    left_out: Mapping[str, str],
    store: SampleStore,
) -> list[str]:
    """What a reader of the verdict has to know besides. prompts: arm -> digest of its prompts."""
    notes = [f"the arm {name} was left out: {why}" for name, why in left_out.items()]
    if config.engines.name == "vllm":
        notes.append(VLLM_NOTE)
    usual = prompts[arms[0].name]
    others = [arm.name for arm in arms if arm.role != PROMPT and prompts[arm.name] != usual]
    if others:
        notes.append(f"other token ids in the prompts of {', '.join(others)}: another tokenizer or template")
    if any(arm.role == PROMPT for arm in arms):
        notes.append("prompt-only is base with the R1 system text before the question: its prompts differ by design")
    if store.damaged:
        notes.append(f"{store.damaged} damaged samples were made again")
    return notes
