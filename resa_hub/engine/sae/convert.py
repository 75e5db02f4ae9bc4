"""An SAE from one format into the other, by way of the training SAE that both are read into."""

from pathlib import Path

from ...core.errors import DoesNotFit
from ...data.snapshots import SAE_CONFIG, SaeFiles
from . import files, sparsify
from .start import LOADERS


def to_saelens(found: SaeFiles, width: int | None, hookpoint: str, folder: Path, base: str) -> tuple[int, int]:
    """Write it to `folder` in SAELens format, nothing of the origin's config but sizes and k; returns (latents, k).

    width: that of the base, None where it is not known. Raises `DoesNotFit` for another width, no plain TopK SAE and
    damaged files.
    """
    sae = LOADERS[found.format](found.folder, width or _width(found), hookpoint)
    files.save(sae, folder, base)
    return sae.cfg.d_sae, sae.cfg.k


def to_sparsify(folder: Path, hookpoint: str) -> None:
    """Rewrite a folder in SAELens format in sparsify's; raises `DoesNotFit` for what is no plain TopK SAE."""
    found = SaeFiles(str(folder), folder, "saelens", hookpoint)
    sae = LOADERS["saelens"](folder, _width(found), hookpoint)
    sparsify.save(sae, folder)
    (folder / "sae_weights.safetensors").unlink()


def _width(found: SaeFiles) -> int:
    said = found.config.get("d_in") if isinstance(found.config, dict) else None
    if not isinstance(said, int) or isinstance(said, bool) or said <= 0:
        raise DoesNotFit(
            f"{found.folder / SAE_CONFIG} says d_in = {said!r}, which is no width",
            "fetch it again, or name another SAE",
        )
    return said
