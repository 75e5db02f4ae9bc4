"""What a run will take: work, memory, downloads, and time and price on named GPUs and on this machine. Extractions,
evaluations, matrices and sweeps are all told in these terms.
"""

from collections.abc import Sequence

import msgspec

from .gpus import Gpu, Price


class DataSize(msgspec.Struct, frozen=True):
    """The tokens of one role's data."""

    rows: int
    tokens: int
    batches: int
    """Chunks or buckets, a step each."""
    basis: str
    """counted, or what the estimate rests on."""
    question: float = 0.0
    """Mean tokens of a question."""


class StageCost(msgspec.Struct, frozen=True):
    name: str
    steps: int
    tokens: int
    operations: float
    passes: int
    """Layers started, forward or backward."""
    decoding: bool = False


class HardwareEstimate(msgspec.Struct, frozen=True):
    """Where it may run, for how long and for how much."""

    machine: str
    hours: float | None
    """None where it does not fit, or the machine is not known."""
    usd: float | None
    priced: str
    fits: bool | None
    """Whether the memory suffices; null where it is not known."""


class Download(msgspec.Struct, frozen=True):
    """Something of the Hub that is not on this machine yet."""

    id: str
    bytes: int | None
    """Estimated from shapes; None where nothing tells it."""


class Estimate(msgspec.Struct, frozen=True):
    stages: list[StageCost]
    memory: dict[str, int]
    """Bytes on the device, by part; the sum is what is needed."""
    offers: list[HardwareEstimate]
    """Named GPUs, then this machine."""
    notes: list[str]
    data: dict[str, DataSize] = {}
    caches: dict[str, int] = {}
    """Bytes of the teacher's states in main memory or on disk; what does not fit is made anew at each use."""
    downloads: list[Download] = []
    """Empty where nothing has to be fetched."""

    @property
    def operations(self) -> float:
        return sum(stage.operations for stage in self.stages)

    @property
    def bytes(self) -> int:
        return sum(self.memory.values())

    @property
    def here(self) -> HardwareEstimate:
        """This machine."""
        return self.offers[-1]


def offer(gpu: Gpu, hours: float | None, needed: int, rate: float | None) -> HardwareEstimate:
    """A GPU that takes so many hours. needed: bytes of memory. rate: USD an hour, instead of the known price."""
    usd, priced = _price(hours, gpu.price if rate is None else Price(rate, "as given"))
    return HardwareEstimate(gpu.name, hours, usd, priced, needed < gpu.memory * 1e9)


def offer_here(machine: str, hours: float | None, rate: float | None, fits: bool | None = None) -> HardwareEstimate:
    usd, priced = _price(hours, None if rate is None else Price(rate, "as given"))
    return HardwareEstimate(f"this machine, {machine}", hours, usd, priced, fits)


def _price(hours: float | None, price: Price | None) -> tuple[float | None, str]:
    if price is None:
        return None, ""
    return None if hours is None else hours * price.usd, f"${price.usd:.2f} an hour, {price.source}"


def together(parts: Sequence[Estimate]) -> Estimate:
    """Runs one after another: work, time and price add up, the largest need of memory counts."""
    largest = max(parts, key=lambda part: part.bytes)
    stages = {stage.name: [other for part in parts for other in part.stages if other.name == stage.name]
              for part in parts for stage in part.stages}  # fmt: skip
    machines = dict.fromkeys(each.machine for part in parts for each in part.offers)
    common = [name for name in machines if all(any(each.machine == name for each in part.offers) for part in parts)]
    return Estimate(
        stages=[_sum_of_stages(same) for same in stages.values()],
        memory=largest.memory,
        offers=[_sum_of_offers([_at(part, name) for part in parts]) for name in common],
        notes=list(dict.fromkeys(note for part in parts for note in part.notes)),
        data=next((part.data for part in parts if part.data), {}),
        caches=max((part.caches for part in parts), key=lambda caches: sum(caches.values())),
        downloads=list({download.id: download for part in parts for download in part.downloads}.values()),
    )


def _at(part: Estimate, machine: str) -> HardwareEstimate:
    return next(each for each in part.offers if each.machine == machine)


def _sum_of_stages(same: Sequence[StageCost]) -> StageCost:
    first = same[0]
    return StageCost(
        first.name,
        sum(stage.steps for stage in same),
        sum(stage.tokens for stage in same),
        sum(stage.operations for stage in same),
        sum(stage.passes for stage in same),
        first.decoding,
    )


def _sum_of_offers(same: Sequence[HardwareEstimate]) -> HardwareEstimate:
    hours, usd = _sum([each.hours for each in same]), _sum([each.usd for each in same])
    fits = {each.fits for each in same}
    priced = next((each.priced for each in same if each.priced), "")
    worst = next(state for state in (False, None, True) if state in fits)
    return HardwareEstimate(same[0].machine, hours, usd, priced, worst)


def _sum(values: Sequence[float | None]) -> float | None:
    """None where one is not known."""
    return None if None in values else sum(value for value in values if value is not None)
