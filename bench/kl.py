"""KL at a real vocabulary: chunks with the analytic gradient beside the plain way (all logits at once, autograd), peak
memory and CPU seconds, one thread.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from resa_hub.engine.model.kl import chunked_kl

VOCABULARY = 151_936
CASES = ((2_048, 64), (512, 1_536), (2_048, 1_536))
"""(positions, width): memory beyond the matrix does not depend on the width, which a small one shows quickly; the last
takes half an hour of CPU.
"""


def peak_of(work: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    """(result, CPU seconds, GB of memory at most beyond what was held before)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, began = _status("VmRSS"), time.process_time()
    result = work()
    return result, time.process_time() - began, _status("VmHWM") - before


def _status(field: str) -> float:
    return int(re.findall(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1e6


def compare(dtype: torch.dtype, positions: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = (1.2 / width**0.5 * torch.randn(VOCABULARY, width, generator=generator)).to(dtype)
    student = torch.randn(positions, width, generator=generator).to(dtype)
    teacher = (student.float() + 0.3 * torch.randn(positions, width, generator=generator)).to(dtype)
    weight = torch.full((positions,), 1 / positions)

    def head(state: Tensor) -> Tensor:
        return functional.linear(state, matrix).float()

    def plain(state: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = head(teacher).log_softmax(-1)
        return functional.kl_div(head(state).log_softmax(-1), wanted, log_target=True, reduction="sum") / positions

    def gradient(loss: Callable[[Tensor], Tensor], found: list[float]) -> Tensor:
        state = student.clone().requires_grad_(True)
        value = loss(state)
        value.backward()
        found.append(value.item())
        assert state.grad is not None
        return state.grad.float()

    values: list[float] = []
    ours, own_seconds, own_memory = peak_of(
        lambda: gradient(lambda state: chunked_kl(state, teacher, weight, head, head), values)
    )
    theirs, seconds, memory = peak_of(lambda: gradient(plain, values))
    apart = float((ours - theirs).norm() / theirs.norm())
    print(
        f"  {positions:,} x {width:,}, {str(dtype).removeprefix('torch.')}: extra memory {own_memory:.2f} GB, "
        f"plain {memory:.2f} GB "
        f"(1/{memory / own_memory:.1f}); time {own_seconds / seconds:.2f} x plain ({own_seconds:.0f} and "
        f"{seconds:.0f} CPU s); "
        f"loss apart {abs(values[0] - values[1]) / values[1]:.1e}, gradient {apart:.1e}",
        flush=True,
    )


def main() -> None:
    torch.set_num_threads(1)
    print(f"  positions x width, vocabulary {VOCABULARY:,}", flush=True)
    for case in CASES:
        for dtype in (torch.float32, torch.bfloat16):
            compare(dtype, *case)
