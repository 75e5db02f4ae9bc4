"""The GPUs that plans and forecasts name: what data sheets and price lists say of them."""

from typing import NamedTuple


class Price(NamedTuple):
    usd: float
    """An hour."""
    told: str
    """By whom, and when."""


class Gpu(NamedTuple):
    name: str
    memory: float
    """GB."""
    bandwidth: float
    """Of its memory, GB a second."""
    peak: float | None = None
    """Dense bf16 operations a second; None where no training is foretold on it."""
    price: Price | None = None


PAPER = Price(1.00, "arXiv 2506.09967, June 2025")
GPUS = (
    Gpu("T4", 16, 320),
    Gpu("L4", 24, 300),
    Gpu("RTX 4090", 24, 1008),
    Gpu("L40S", 48, 864, 362e12, PAPER),
    Gpu("RTX 6000 Ada", 48, 960, 364e12, PAPER),
    Gpu("A100 80GB", 80, 2039, 312e12, Price(0.86, "lowest listings, January 2026")),
    Gpu("H100 SXM", 80, 3350, 989e12, Price(2.95, "median of 37 providers, May 2026")),
)
"""Memory, bandwidth and peak of the makers' data sheets."""
