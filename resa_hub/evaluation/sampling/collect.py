"""The samples of all arms: read where they are kept, generated where they are missing. Nothing heavy is imported when
nothing is missing.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from ...core.errors import DoesNotFit, RunFailed
from ...core.progress import Progress
from ...core.strict import canonical_digest
from ...engine.generation.base import Key, Sample
from ..arms import PROMPT, Arm
from .jobs import EngineJob, SamplingConfig, _about, _check, _idle, _prompt_rule, rendered, run_engine, sample_set
from .samples import SampleStore

VLLM_NOTE = (
    "vLLM: arms share a seed per problem and sample, which couples them less than common uniforms do; "
    "intervals are wider for it, not wrong"
)


class CollectedSamples(NamedTuple):
    samples: dict[str, dict[Key, Sample]]
    """arm -> samples at the asked temperature."""
    greedy: dict[str, dict[Key, Sample]]
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


def collect(asked: SamplingConfig, arms: Sequence[Arm], store: SampleStore, progress: Progress) -> CollectedSamples:
    """Every sample of every arm. Raises `DoesNotFit` where prompts and answers exceed the context, `RunFailed` where
    the self-check fails or the engine dies; what was finished by then is kept.
    """
    asked = asked._replace(engines=asked.engines.settled(arms[0].base))
    make_controls(arms)
    prompts = {arm.name: _prompts(asked, arm, store) for arm in arms}
    left_out = {name: found["error"] for name, found in prompts.items() if "error" in found}
    arms = [arm for arm in arms if arm.name not in left_out]
    for arm in arms:
        _check_context(asked, arm, prompts[arm.name]["longest"])
    samples: dict[str, dict[Key, Sample]] = {}
    greedy: dict[str, dict[Key, Sample]] = {}
    for _ in range(2):  # a damaged sample shows when it is read, and is missing then
        for part in missing(asked, arms, store, {name: found.get("longest", 0) for name, found in prompts.items()}):
            _generate(asked, part, store, progress)
        samples = {
            arm.name: store.read(sample_set(asked, arm, asked.temperature), asked.problems, asked.samples)
            for arm in arms
        }
        greedy = (
            {arm.name: store.read(sample_set(asked, arm, 0.0), asked.problems, 1) for arm in arms}
            if asked.greedy
            else {}
        )
        if all(len(table) == len(asked.problems) * asked.samples for table in samples.values()) and all(
            len(t) == len(asked.problems) for t in greedy.values()
        ):
            break
    else:
        raise RunFailed(
            "the engine did not give all samples that it was asked for",
            "run it again, with --engine transformers if this was another",
        )
    identical = _idle(asked, arms, store)
    return CollectedSamples(
        samples=samples,
        greedy=greedy,
        sets={arm.name: sample_set(asked, arm, asked.temperature).digest for arm in arms},
        prompts={arm.name: prompts[arm.name]["digest"] for arm in arms},
        identical=identical,
        left_out=left_out,
        notes=_notes(asked, arms, prompts, left_out, store),
        engine=store.get_fact(_about(asked, arms[0].base))
        or {"name": asked.engines.name, "dtype": asked.engines.dtype},
    )


def missing(asked: SamplingConfig, arms: Sequence[Arm], store: SampleStore, longest: dict[str, int]) -> list[EngineJob]:
    """What has to be generated, or checked, base by base; empty when everything is there. `longest`: tokens of the
    longest prompt of each arm.
    """
    parts: dict[str, EngineJob] = {}
    for arm in arms:
        jobs = []
        for temperature, count in ((asked.temperature, asked.samples), *(((0.0, 1),) if asked.greedy else ())):
            present = store.present(sample_set(asked, arm, temperature), asked.problems)
            jobs += [
                (temperature, arm.name, (p.id, n))
                for p in asked.problems
                for n in range(count)
                if (p.id, n) not in present
            ]
        if jobs or (arm.folder and store.get_fact(_check(asked, arm)) is None):
            part = parts.setdefault(arm.base.weights_digest, EngineJob(arm.base, [], [], 0))
            parts[arm.base.weights_digest] = part._replace(
                arms=[*part.arms, arm], jobs=part.jobs + jobs, longest=max(part.longest, longest.get(arm.name, 0))
            )
    return list(parts.values())


def _generate(asked: SamplingConfig, part: EngineJob, store: SampleStore, progress: Progress) -> None:
    label = f"{part.base.id.rpartition('/')[2]}, {len(part.arms)} arms" + (
        f", {asked.engines.workers} processes" if asked.engines.workers > 1 else ""
    )
    with progress.stage(label, len(part.jobs), "samples") as advance:
        if asked.engines.workers > 1 and len(part.jobs) >= asked.engines.workers:
            from .workers import share

            share(asked, part, store.path.parent, asked.engines.workers, asked.engines.tensor_parallel, advance)
        else:
            run_engine(asked, part, store, advance)


def make_controls(arms: Sequence[Arm]) -> None:
    """The folders of controls that are made on the fly, where they are missing."""
    for arm in arms:
        if arm.origin and arm.folder and not arm.folder.exists():
            from ...engine.model.controls import negated, random_like

            if arm.role == "negated":
                negated(arm.origin, arm.folder)
            else:
                random_like(arm.origin, int(arm.name.rpartition("-")[2]), arm.folder)


def _prompts(asked: SamplingConfig, arm: Arm, store: SampleStore) -> dict[str, Any]:
    """{digest, longest} of the arm's prompts, or the {error} that keeps a prompt-only arm from being asked; kept, so
    that a finished run loads nothing.
    """
    name = "prompts " + canonical_digest(
        [_prompt_rule(arm.base, arm.template), [[p.id, p.question] for p in asked.problems]]
    )
    found = store.get_fact(name)
    if found is None:
        try:
            ids = rendered(arm.base, arm.template, tuple(p.question for p in asked.problems))
            found = {"digest": "sha256:" + sha256(repr(ids).encode()).hexdigest(), "longest": max(map(len, ids))}
        except RunFailed as error:
            if arm.role != PROMPT:
                raise
            found = {"error": error.message}
        store.put_fact(name, found)
    return found


def _check_context(asked: SamplingConfig, arm: Arm, longest: int) -> None:
    context = arm.base.config.get("max_position_embeddings")
    if isinstance(context, int) and longest + asked.new_tokens > context:
        room = context - longest
        raise DoesNotFit(
            f"{arm.base.id} has a context of {context:,} tokens; the longest prompt has {longest:,}, which "
            f"leaves {max(0, room):,} of the {asked.new_tokens:,} "
            f"asked for an answer",
            f"--new-tokens {room}, or another target"
            if room > 0
            else "no answer fits: take another target or benchmark",
        )


def _notes(
    asked: SamplingConfig, arms: Sequence[Arm], prompts: dict[str, Any], left_out: dict[str, str], store: SampleStore
) -> list[str]:
    """What a reader of the verdict has to know besides."""
    notes = [f"the arm {name} was left out: {why}" for name, why in left_out.items()]
    if asked.engines.name == "vllm":
        notes.append(VLLM_NOTE)
    other = [
        arm.name
        for arm in arms
        if arm.role != PROMPT and prompts[arm.name]["digest"] != prompts[arms[0].name]["digest"]
    ]
    if other:
        notes.append(f"other token ids in the prompts of {', '.join(other)}: another tokenizer or template")
    if any(arm.role == PROMPT for arm in arms):
        notes.append("prompt-only is base with the R1 system text before the question: its prompts differ by design")
    if store.damaged:
        notes.append(f"{store.damaged} damaged samples were made again")
    return notes
