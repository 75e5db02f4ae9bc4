"""The reference code's way to train an SAE: schedule-free sign SGD (arXiv 2405.15682) on the fraction of variance
unexplained (FVU), as in EleutherAI's sparsify.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from schedulefree import ScheduleFreeWrapper
from torch import Tensor

from ..distributed import SINGLE_PROCESS, ProcessGroup, SharedGradient
from .topk import SparseTopKTrainingSAE, reconstruct_with_gradient

MOMENTUM = 0.95


class SignSGD(torch.optim.Optimizer):
    """p <- p - lr sign(gradient) (arXiv 1802.04434)."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad.sign(), alpha=-group["lr"])


class SignumTrainer:
    """Each step: decoder to unit norm, FVU of the batch, the gradient's part along the decoder taken out, sign step.
    No auxiliary loss, the reference's default.
    """

    def __init__(
        self, sae: SparseTopKTrainingSAE, rate: float, processes: ProcessGroup = SINGLE_PROCESS, size: int = 0
    ) -> None:
        """size: tokens of a step, those of the group's other processes included."""
        self.sae = sae
        self.steps = 0
        self.processes = processes
        self.size = size
        SharedGradient(sae, processes)
        self.optimizer = ScheduleFreeWrapper(SignSGD(sae.parameters(), rate), momentum=MOMENTUM)
        self.optimizer.train()

    def step(self, batch: Float[Tensor, "n d_in"]) -> float:
        sae = self.sae
        normalise(sae)
        out, _, _ = reconstruct_with_gradient(sae, batch)
        variance = (batch - self.processes.all_reduce_mean(batch, self.size)).pow(2).sum()
        self.processes.all_reduce_(variance)
        loss = (batch - out).pow(2).sum() / variance
        loss.backward()
        with torch.no_grad():
            gradient = sae.W_dec.grad
            assert gradient is not None
            if sae.unit_decoder:
                gradient -= (gradient * sae.W_dec).sum(-1, keepdim=True) * sae.W_dec
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        return {"sae": self.sae.state_dict(), "optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        self.sae.load_state_dict(state["sae"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]

    def finish(self) -> None:
        """The averaged weights are the result."""
        self.optimizer.eval()
        normalise(self.sae)


@torch.no_grad()
def normalise(sae: SparseTopKTrainingSAE) -> None:
    """Scale each latent's decoder direction to norm 1, in place; nothing for an SAE without `unit_decoder`."""
    if not sae.unit_decoder:
        return
    sae.W_dec.div_(sae.W_dec.norm(dim=-1, keepdim=True) + torch.finfo(sae.W_dec.dtype).eps)
