"""The SAE that stage I starts from, read in either format, and what it costs to take it to another hookpoint."""

from ...adapter.manifest import SaeInit
from ...config.refs import HOOKPOINT
from ...core.errors import DoesNotFit, Usage
from ...core.progress import Progress
from ...data.snapshots import SaeFiles
from ..model.split import check_layer
from . import files, sparsify
from .activations import Sources
from .quality import fvu
from .topk import SparseTopKTrainingSAE, has_unit_decoder

LOADERS = {"saelens": files.load, "sparsify": sparsify.load}


def load_initial_sae(
    start: SaeFiles, width: int, hookpoint: str, held_out: Sources, progress: Progress
) -> tuple[SparseTopKTrainingSAE, SaeInit]:
    """The SAE as it is and its record. At another hookpoint than its own both FVUs are told, on held-out tokens without
    the first position.

    Raises `DoesNotFit` for another width, no plain TopK SAE, damaged files, and for a layer that the model does not
    have.
    """
    sae = LOADERS[start.format](start.folder, width, hookpoint).to(held_out[0][0].device)
    sae.unit_decoder = has_unit_decoder(sae)
    here, there = fvu(sae, held_out, hookpoint), None
    if start.hookpoint and start.hookpoint != hookpoint:
        there = _elsewhere(sae, start, held_out)
        own = (
            f"at its own hookpoint its FVU is {there:.3g}"
            if there is not None
            else "at its own hookpoint its FVU cannot be measured"
        )
        progress.say(f"  the SAE was made for {start.hookpoint}: {own}, at {hookpoint} it is {here:.3g}")
    if here >= 1:
        progress.say(f"  the SAE describes the states at {hookpoint} no better than their mean does (FVU {here:.3g})")
    return sae, SaeInit(
        digest=start.digest, format=start.format, hookpoint=start.hookpoint, fvu_here=here, fvu_there=there
    )


def _elsewhere(sae: SparseTopKTrainingSAE, start: SaeFiles, held_out: Sources) -> float | None:
    """FVU at the SAE's own hookpoint; None for a hook that is none of ours."""
    own = start.hookpoint
    if not own or not HOOKPOINT.fullmatch(own):
        return None
    try:
        check_layer(held_out[0][0], own)
    except Usage:
        raise DoesNotFit(
            f"the SAE {start.origin} was made for {own}, a layer that the model does not have", "name another SAE"
        ) from None
    return fvu(sae, held_out, own)
