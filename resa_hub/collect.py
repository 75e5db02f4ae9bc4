"""The samples of all arms: read where they are kept, generated where they are missing. Nothing heavy is imported when nothing is missing."""

import functools
import shutil
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .benchmarks.base import Problem
from .errors import DoesNotFit, HubError, RunFailed, Usage, did_you_mean
from .evaluation.arms import PROMPT, Arm
from .evaluation.samples import Key, Sample, SampleSet, SampleStore
from .failures import explain
from .progress import Advance, Progress
from .recipe import canonical_digest
from .sources import Files

ENGINES = ("auto", "transformers", "vllm")
DTYPES = ("auto", "float32", "bfloat16", "float16")
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json")
TEMPLATE = ("chat_template.jinja", "tokenizer_config.json")
VLLM_NOTE = "vLLM: arms share a seed per problem and sample, which couples them less than common uniforms do; intervals are wider for it, not wrong"


class Engines(NamedTuple):
    """What samples are generated with."""

    name: str = "auto"
    """transformers, vllm, or auto: vLLM where it is installed and a GPU is there."""
    dtype: str = "auto"
    """float32 on a CPU, else that of the model."""
    tensor_parallel: int = 1
    """GPUs that share one model (vLLM)."""
    workers: int = 1
    """Processes that share the samples, each with an engine of its own and, where there are GPUs, `tensor_parallel` of them."""
    lora: str = "auto"
    """merged, beside or auto."""

    def settled(self, base: Files) -> "Engines":
        """`auto` decided, for it is part of what a sample depends on; raises `Usage`."""
        if self.tensor_parallel < 1 or self.workers < 1 or self.lora not in ("auto", "merged", "beside"):
            raise Usage("workers and GPUs are counts; adapters run merged, beside or auto", "--workers 2 --tensor-parallel 1")
        if self.name not in ENGINES:
            raise Usage(f"no engine is called {self.name!r}", did_you_mean(self.name, list(ENGINES)))
        if self.dtype not in DTYPES:
            raise Usage(f"dtype {self.dtype!r} is not known", did_you_mean(self.dtype, list(DTYPES)))
        gpu = shutil.which("nvidia-smi") is not None and Path("/dev/nvidia0").exists()
        name = ("vllm" if gpu and find_spec("vllm") else "transformers") if self.name == "auto" else self.name
        own = str(base.config.get("dtype") or base.config.get("torch_dtype") or "float32")
        return self._replace(name=name, dtype=(own if gpu else "float32") if self.dtype == "auto" else self.dtype)


class Asked(NamedTuple):
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


class Collected(NamedTuple):
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


class Part(NamedTuple):
    """What is missing of the arms of one base: the work of one engine."""

    base: Files
    arms: list[Arm]
    jobs: list[tuple[float, str, Key]]
    """(temperature, arm, key), arm by arm."""
    longest: int
    """Tokens of the longest prompt."""


def collect(asked: Asked, arms: Sequence[Arm], store: SampleStore, progress: Progress) -> Collected:
    """Every sample of every arm. Raises `DoesNotFit` where prompts and answers exceed the context, `RunFailed` where the self-check fails or the engine dies;
    what was finished by then is kept."""
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
        samples = {arm.name: store.read(sample_set(asked, arm, asked.temperature), asked.problems, asked.samples) for arm in arms}
        greedy = {arm.name: store.read(sample_set(asked, arm, 0.0), asked.problems, 1) for arm in arms} if asked.greedy else {}
        if all(len(table) == len(asked.problems) * asked.samples for table in samples.values()) and all(len(t) == len(asked.problems) for t in greedy.values()):
            break
    else:
        raise RunFailed("the engine did not give all samples that it was asked for", "run it again, with --engine transformers if this was another")
    identical = _idle(asked, arms, store)
    return Collected(
        samples=samples,
        greedy=greedy,
        sets={arm.name: sample_set(asked, arm, asked.temperature).digest for arm in arms},
        prompts={arm.name: prompts[arm.name]["digest"] for arm in arms},
        identical=identical,
        left_out=left_out,
        notes=_notes(asked, arms, prompts, left_out, store),
        engine=store.finding(_about(asked, arms[0].base)) or {"name": asked.engines.name, "dtype": asked.engines.dtype},
    )


def sample_set(asked: Asked, arm: Arm, temperature: float) -> SampleSet:
    """The key of an arm's samples; `asked.engines` are settled."""
    settings = {
        "engine": asked.engines.name, "dtype": asked.engines.dtype, "temperature": temperature, "top_p": asked.top_p if temperature else 1.0,
        "new_tokens": asked.new_tokens, "seed": asked.seed if temperature else 0, "prompt": _prompt_rule(arm.base, arm.template),
    }  # fmt: skip
    return SampleSet(arm.identity, asked.benchmark, settings)


def missing(asked: Asked, arms: Sequence[Arm], store: SampleStore, longest: dict[str, int]) -> list[Part]:
    """What has to be generated, or checked, base by base; empty when everything is there. `longest`: tokens of the longest prompt of each arm."""
    parts: dict[str, Part] = {}
    for arm in arms:
        jobs = []
        for temperature, count in ((asked.temperature, asked.samples), *(((0.0, 1),) if asked.greedy else ())):
            present = store.present(sample_set(asked, arm, temperature), asked.problems)
            jobs += [(temperature, arm.name, (p.id, n)) for p in asked.problems for n in range(count) if (p.id, n) not in present]
        if jobs or (arm.folder and store.finding(_check(asked, arm)) is None):
            part = parts.setdefault(arm.base.weights_digest, Part(arm.base, [], [], 0))
            parts[arm.base.weights_digest] = part._replace(
                arms=[*part.arms, arm], jobs=part.jobs + jobs, longest=max(part.longest, longest.get(arm.name, 0))
            )  # fmt: skip
    return list(parts.values())


def work(asked: Asked, part: Part, store: SampleStore, advance: Advance) -> None:
    """One engine from its start to its end: load, self-check, samples, self-check. What does not pass the second check is thrown away."""
    from .engine.generate.engines import Job, Means, Sampling, open_engine

    arms, problems = {arm.name: arm for arm in part.arms}, {p.id: p for p in asked.problems}
    sets = {(t, arm.name): sample_set(asked, arm, t) for arm in part.arms for t in {t for t, name, _ in part.jobs if name == arm.name}}
    ids = {arm.name: dict(zip(problems, rendered(arm.base, arm.template, tuple(p.question for p in asked.problems)), strict=True)) for arm in part.arms}
    texts = {arm.name: arm.texts or tuple(p.question for p in asked.problems[:4]) for arm in part.arms if arm.folder}
    means = Means(part.longest + asked.new_tokens, asked.engines.dtype, asked.engines.tensor_parallel, asked.engines.lora)
    kept, mark = 0, store.last()
    try:
        engine = open_engine(asked.engines.name, part.base, {name: arm.folder for name, arm in arms.items()}, means)
        try:
            store.find(_about(asked, part.base), engine.about)
            identical = engine.check(texts)
            for name in texts:
                store.find(_check(asked, arms[name]), {"identical": name in identical})
            _idle(asked, part.arms, store)
            for temperature in dict.fromkeys(t for t, _, _ in part.jobs):
                jobs = [Job(name, key, ids[name][key[0]]) for t, name, key in part.jobs if t == temperature]
                how = Sampling(temperature, asked.top_p if temperature else 1.0, asked.new_tokens, asked.seed if temperature else 0)
                for done in engine.run(jobs, how):
                    for name in {one.arm for one in done}:
                        store.add(sets[temperature, name], problems, [(one.key, one.sample) for one in done if one.arm == name])
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
        what = found.message if found else f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
        hint = f"run the same command again: {kept:,} new samples are kept, it goes on behind them"
        raise RunFailed(f"the engine {asked.engines.name} died: {what}", hint) from error


@functools.lru_cache(maxsize=16)
def rendered(base: Files, template: str | None, questions: tuple[str, ...]) -> list[list[int]]:
    """The token ids of every question as the base is asked it."""
    from .engine.models import load_tokenizer
    from .engine.text import prompt

    tokenizer = load_tokenizer(base)
    return [prompt(tokenizer, template, question) for question in questions]


def _generate(asked: Asked, part: Part, store: SampleStore, progress: Progress) -> None:
    label = f"{part.base.id.rpartition('/')[2]}, {len(part.arms)} arms" + (f", {asked.engines.workers} processes" if asked.engines.workers > 1 else "")
    with progress.stage(label, len(part.jobs), "samples") as advance:
        if asked.engines.workers > 1 and len(part.jobs) >= asked.engines.workers:
            from .workers import share

            share(asked, part, store.path.parent, asked.engines.workers, asked.engines.tensor_parallel, advance)
        else:
            work(asked, part, store, advance)


def make_controls(arms: Sequence[Arm]) -> None:
    """The folders of controls that are made on the fly, where they are missing."""
    for arm in arms:
        if arm.origin and arm.folder and not arm.folder.exists():
            from .engine.arms import negated, random_like

            if arm.role == "negated":
                negated(arm.origin, arm.folder)
            else:
                random_like(arm.origin, int(arm.name.rpartition("-")[2]), arm.folder)


def _prompts(asked: Asked, arm: Arm, store: SampleStore) -> dict[str, Any]:
    """{digest, longest} of the arm's prompts, or the {error} that keeps a prompt-only arm from being asked; kept, so that a finished run loads nothing."""
    name = "prompts " + canonical_digest([_prompt_rule(arm.base, arm.template), [[p.id, p.question] for p in asked.problems]])
    found = store.finding(name)
    if found is None:
        try:
            ids = rendered(arm.base, arm.template, tuple(p.question for p in asked.problems))
            found = {"digest": "sha256:" + sha256(repr(ids).encode()).hexdigest(), "longest": max(map(len, ids))}
        except RunFailed as error:
            if arm.role != PROMPT:
                raise
            found = {"error": error.message}
        store.find(name, found)
    return found


@functools.lru_cache(maxsize=64)
def _prompt_rule(base: Files, template: str | None) -> str:
    """Of all that makes token ids of a question."""
    return canonical_digest([base.digest_of(*TOKENIZER), base.digest_of(*TEMPLATE), template])


def _check_context(asked: Asked, arm: Arm, longest: int) -> None:
    context = arm.base.config.get("max_position_embeddings")
    if isinstance(context, int) and longest + asked.new_tokens > context:
        room = context - longest
        raise DoesNotFit(
            f"{arm.base.id} has a context of {context:,} tokens; the longest prompt has {longest:,}, which leaves {max(0, room):,} of the {asked.new_tokens:,} "
            f"asked for an answer",
            f"--new-tokens {room}, or another target" if room > 0 else "no answer fits: take another target or benchmark",
        )


def _check(asked: Asked, arm: Arm) -> str:
    return "check " + canonical_digest([arm.identity, list(arm.texts), asked.engines.name, asked.engines.dtype])


def _about(asked: Asked, base: Files) -> str:
    return "engine " + canonical_digest([asked.engines.name, asked.engines.dtype, base.weights_digest])


def _idle(asked: Asked, arms: Sequence[Arm], store: SampleStore) -> set[str]:
    """The arms that change no logit; raises `RunFailed` where that is a control or the source, which would control nothing."""
    found = {arm.name: arm for arm in arms if arm.folder and (store.finding(_check(asked, arm)) or {}).get("identical")}
    for arm in found.values():
        if arm.role in ("random", "negated", "source", "source-model"):
            raise RunFailed(f"the arm {arm.name!r} changes no logit, so it controls nothing", "leave it out: --arms, or --controls 0")
    return set(found)


def _notes(asked: Asked, arms: Sequence[Arm], prompts: dict[str, Any], left_out: dict[str, str], store: SampleStore) -> list[str]:
    """What a reader of the verdict has to know besides."""
    notes = [f"the arm {name} was left out: {why}" for name, why in left_out.items()]
    if asked.engines.name == "vllm":
        notes.append(VLLM_NOTE)
    other = [arm.name for arm in arms if arm.role != PROMPT and prompts[arm.name]["digest"] != prompts[arms[0].name]["digest"]]
    if other:
        notes.append(f"other token ids in the prompts of {', '.join(other)}: another tokenizer or template")
    if any(arm.role == PROMPT for arm in arms):
        notes.append("prompt-only is base with the R1 system text before the question: its prompts differ by design")
    if store.damaged:
        notes.append(f"{store.damaged} damaged samples were made again")
    return notes
