"""Stage I of an extraction: the SAE at each hookpoint, and its finished state, which outlives a kill."""

import msgspec
from sae_lens import TopKTrainingSAEConfig

from ...adapter.manifest import SaeInit
from ...config.refs import layer_of
from ...core.errors import RunFailed
from ...core.flops import sae_training_flops
from ...core.sae_quality import fault_of
from ..checkpoint import Checkpoint
from ..cost_tracker import CostTracker, sizes
from ..sae.activations import ActivationCache, Sources
from ..sae.topk import SparseTopKTrainingSAE
from ..sae.train import TrainedSae, count_steps, train_sae
from .context import ExtractionContext

STAGE = "sae"
FINISHED = "finished-"
"""Before the hookpoint: the name of the state that holds a finished SAE."""


def finished_sae(
    context: ExtractionContext, sources: Sources, held_out: Sources, hookpoint: str | None = None
) -> TrainedSae:
    """The SAE of stage I at the recipe's hookpoint, or another; what an interrupted run finished is taken as it is.

    sources, held_out: texts to train on and to judge it on, each with the model that reads them. Raises `RunFailed` for
    an SAE that explains less than the mean does or is nearly all dead, unless the recipe accepts it.
    """
    hookpoint = hookpoint or context.recipe.hookpoint
    trained = _load(context, hookpoint) or _train(context, sources, held_out, hookpoint)
    _check_quality(context, trained, hookpoint)
    return trained


def _check_quality(context: ExtractionContext, trained: TrainedSae, hookpoint: str) -> None:
    settings = context.recipe.sae
    fault = fault_of(trained.quality, trained.sae.cfg.d_sae, trained.sae.cfg.k)
    if not fault:
        return
    if settings.accept_bad:
        context.progress.say(f"  the SAE at {hookpoint} {fault}: going on, as sae.accept_bad says")
        return
    if settings.mode == "pretrained":
        remedy = "train it on these states with --set sae.mode=finetuned --set sae.reset_bias=true"
    elif settings.mode == "finetuned" and not settings.reset_bias:
        remedy = "move it to these states with --set sae.reset_bias=true"
    else:
        remedy = "train it longer or at another rate: --set sae.epochs=..., sae.steps=... or sae.learning_rate=..."
    raise RunFailed(
        f"the SAE at {hookpoint} {fault}: nothing learnt through it would mean anything",
        f"{remedy}; --set sae.accept_bad=true goes on all the same",
    )


def save_finished(context: ExtractionContext, trained: TrainedSae, hookpoint: str, ledger: CostTracker) -> None:
    """Write the finished SAE and count what it cost, for the extraction whose ledger this is."""
    sae, settings = trained.sae, context.recipe.sae
    steps = 0 if settings.mode == "pretrained" else count_steps(settings, trained.tokens)
    below = sizes(context.source).up_to(layer_of(hookpoint))
    step_operations = sae_training_flops(sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.k)
    operations = 2.0 * below * trained.tokens + steps * settings.batch_tokens * step_operations
    ledger.add(STAGE, steps * settings.batch_tokens, operations)
    rest = {key: msgspec.to_builtins(value) for key, value in trained._asdict().items() if key != "sae"}
    ledger.save(f"{FINISHED}{hookpoint}", {"config": sae.cfg.to_dict(), "weights": sae.state_dict(), "rest": rest})


def _load(context: ExtractionContext, hookpoint: str) -> TrainedSae | None:
    state = context.ledger.load(f"{FINISHED}{hookpoint}")
    if not state:
        return None
    context.progress.say("  the SAE is finished from before")
    sae = SparseTopKTrainingSAE(TopKTrainingSAEConfig.from_dict(state["config"]))
    sae.load_state_dict(state["weights"])
    sae.to(context.target.device).requires_grad_(False)
    start = state["rest"].pop("start")
    return TrainedSae(sae=sae, start=msgspec.convert(start, SaeInit | None), **state["rest"])


def _train(context: ExtractionContext, sources: Sources, held_out: Sources, hookpoint: str) -> TrainedSae:
    ledger, recipe = context.ledger, context.recipe
    with ledger.stage(STAGE):
        cache = None
        if context.disk and ledger.folder:
            cache = ActivationCache(ledger.folder / "activations" / hookpoint, context.disk)
        trained = train_sae(
            sources,
            held_out,
            recipe.sae,
            hookpoint,
            context.inputs.initial_saes.get(hookpoint),
            recipe.seed,
            context.progress,
            _checkpoint(context, hookpoint),
            cache,
        )
    save_finished(context, trained, hookpoint, ledger)
    if cache:
        cache.close()
    return trained


def _checkpoint(context: ExtractionContext, hookpoint: str) -> Checkpoint:
    """Where the unfinished state is kept: one of several SAEs has a folder of its own, so that its state is never taken
    for that of the first.
    """
    ledger = context.ledger
    if hookpoint == context.recipe.hookpoint:
        return ledger
    return Checkpoint(ledger.folder / hookpoint if ledger.folder else None, ledger.every, ledger.processes)
