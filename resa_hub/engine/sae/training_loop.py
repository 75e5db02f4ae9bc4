"""The training loop of an SAE on a stream of activations, resumable at any step."""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from jaxtyping import Float
from sae_lens import SAETrainer
from sae_lens.config import SAETrainerConfig
from torch import Tensor, nn

from ...config.recipe import SaeSettings
from ...core.errors import RunFailed
from ...core.progress import Progress
from ..checkpoint import Checkpoint
from ..distributed import SINGLE_PROCESS, ProcessGroup, SharedGradient
from .signum import SignumTrainer, normalise
from .topk import SparseTopKTrainingSAE, set_memory_layout

STATE = "sae"
DEAD_AFTER_STEPS = 1_000
COUNTERS = (
    "n_training_steps",
    "n_training_samples",
    "act_freq_scores",
    "n_forward_passes_since_fired",
    "n_frac_active_samples",
)
"""What SAELens' trainer knows beside weights, optimiser and schedule."""


class Stream(Protocol):
    """`activations.stream` of certain texts."""

    def __call__(
        self, *, size: int, skip_first: bool, start: int, processes: ProcessGroup
    ) -> Iterator[Float[Tensor, "n d_in"]]: ...


class SaeTrainer(Protocol):
    @property
    def steps(self) -> int: ...
    def step(self, batch: Float[Tensor, "n d_in"]) -> float: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...
    def finish(self) -> None: ...


class AdamTrainer:
    """SAELens' own trainer; the decoder is kept at unit norm."""

    def __init__(
        self, sae: SparseTopKTrainingSAE, settings: SaeSettings, steps: int, processes: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        size, rate = settings.batch_tokens, settings.rate
        set_memory_layout(sae, training=True)
        self.processes = processes
        self.size = size
        self.gradient = SharedGradient(sae, processes)
        config = SAETrainerConfig(
            total_training_samples=steps * size,
            train_batch_size_samples=size,
            lr=rate,
            lr_end=rate / 10,
            lr_warm_up_steps=min(50, steps // 10),
            lr_decay_steps=steps // 3,
            adam_beta2=0.99,
            dead_feature_window=DEAD_AFTER_STEPS,
            device=str(sae.device),
        )
        self.trainer = SAETrainer(config, sae, iter(()))
        by_latent = self._transposed_encoder(sae)
        for group in self.trainer.optimizer.param_groups:
            group["fused"] = True  # one pass over each parameter where torch's default makes ten
            group["params"] = [by_latent if parameter is sae.W_enc else parameter for parameter in group["params"]]
        self.parts = {"sae": sae, "optimizer": self.trainer.optimizer, "lr_scheduler": self.trainer.lr_scheduler}

    def _transposed_encoder(self, sae: SparseTopKTrainingSAE) -> nn.Parameter:
        """W_enc as it lies in memory, [d_sae, d_in], for the optimiser, which would copy a gradient laid out otherwise.

        It shares the memory of W_enc, and takes W_enc's gradient over before each step.
        """
        transposed = nn.Parameter(sae.W_enc.data.T)

        def hand_over(*_: Any) -> None:
            transposed.grad = None if sae.W_enc.grad is None else sae.W_enc.grad.T
            sae.W_enc.grad = None

        self.trainer.optimizer.register_step_pre_hook(hand_over)
        return transposed

    @property
    def steps(self) -> int:
        return self.trainer.n_training_steps

    def step(self, batch: Float[Tensor, "n d_in"]) -> float:
        self.gradient.share = len(batch) / self.size
        if not len(batch):  # chance gave this step's tokens to the others
            batch = batch.new_zeros(1, batch.shape[1])
        loss = float(self.trainer.step(batch).loss.detach())
        self.processes.all_reduce_min_(self.trainer.n_forward_passes_since_fired)
        self.trainer.n_training_steps += 1
        normalise(self.trainer.sae)
        return loss

    def state(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        schedules = {name: schedule.state_dict() for name, schedule in self.trainer.coefficient_schedulers.items()}
        counters = {name: getattr(self.trainer, name) for name in COUNTERS}
        return {**parts, "schedules": schedules, **counters}

    def restore(self, state: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for name, values in state["schedules"].items():
            self.trainer.coefficient_schedulers[name].load_state_dict(values)
        for name in COUNTERS:
            setattr(self.trainer, name, state[name])

    def finish(self) -> None:
        set_memory_layout(self.trainer.sae, training=False)  # pyright: ignore[reportArgumentType]


def fit(
    sae: SparseTopKTrainingSAE,
    stream: Stream,
    settings: SaeSettings,
    steps: int,
    *,
    reset_bias: bool,
    progress: Progress,
    checkpoint: Checkpoint,
) -> Iterator[None]:
    """Train in place, pausing after each step; a run that was killed goes on from its last state. reset_bias: the
    decoder's bias starts at the mean of the first batch. Raises `RunFailed` at a step whose loss is not finite.
    """
    sae.low_precision = settings.encoder == "bfloat16"
    size, processes = settings.batch_tokens, checkpoint.processes
    trainer = _new_trainer(sae, settings, steps, processes)
    state = checkpoint.load(STATE)
    if state:
        trainer.restore(state)
        progress.say(f"  train SAE: continuing at step {trainer.steps} of {steps}")
    done = trainer.steps
    with progress.stage("train SAE", (steps - done) * size, "tokens") as advance:
        batches = stream(size=size, skip_first=settings.skip_first, start=done, processes=processes)
        for step in range(done, steps):
            batch = next(batches).to(sae.device)
            if reset_bias and step == 0:
                with torch.no_grad():
                    sae.b_dec.copy_(processes.all_reduce_mean(batch, size))
            if not math.isfinite(trainer.step(batch)):
                raise RunFailed(
                    f"the loss of the SAE is not finite at step {step}", "lower it with --set sae.learning_rate=..."
                )
            advance(size)
            if checkpoint.due():
                checkpoint.save(STATE, trainer.state())
            yield
    trainer.finish()
    sae.low_precision = False


def _new_trainer(sae: SparseTopKTrainingSAE, settings: SaeSettings, steps: int, processes: ProcessGroup) -> SaeTrainer:
    if settings.optimizer == "signum":
        return SignumTrainer(sae, settings.rate, processes, settings.batch_tokens)
    return AdamTrainer(sae, settings, steps, processes)
