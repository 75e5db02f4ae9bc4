"""The locked versions: exact, of every dependency, and fitting on every Python and platform that the README names."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from itertools import product

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import lock_check
from tests.helpers import needs
from tests.helpers.commands import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SYSTEMS = {"Linux x86-64": ("linux", "x86_64"), "Linux arm64": ("linux", "aarch64"), "macOS arm64": ("darwin", "arm64")}
LEFT_OUT = re.compile(r"nvidia-|cuda-|triton|torchvision|torchaudio|torchcodec")
"""What scripts/lock.sh leaves out: torch pins the CUDA libraries itself, the rest is not installed."""


def environment(platform: str, python: str) -> dict[str, str]:
    """What markers read on that machine."""
    system, machine = SYSTEMS[platform]
    return {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": system,
        "platform_system": system.capitalize(),
        "platform_machine": machine,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


MACHINES = list(product(SYSTEMS, lock_check.PYTHONS))


def lines_of(name: str) -> list[str]:
    return [
        line
        for line in (ROOT / f"constraints/{name}.txt").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_constraints_hold_exact_versions(name: str) -> None:
    """Plain `name==version`, some with a marker; pip's own parser reads them."""
    requirements = [Requirement(line) for line in lines_of(name)]
    assert len(requirements) > 50
    assert [str(r) for r in requirements if not re.fullmatch(r"==[\w.]+", str(r.specifier)) or r.url or r.extras] == []
    plain = [(r.name, str(r.marker)) for r in requirements]
    assert len(plain) == len(set(plain))


@pytest.mark.parametrize("name", ["cpu", "cuda", "overrides", "overrides-cpu"])
def test_constraints_name_no_host_and_no_option(name: str) -> None:
    assert lines_of(name)
    assert [line for line in lines_of(name) if re.search(r"://|\s@\s|\+cpu|^-|--hash|\bfile:", line)] == []


def test_constraints_pin_every_direct_dependency() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = {Requirement(line).name.lower() for line in (*PROJECT["dependencies"], *extras["test"], *extras["dev"])}
    for kind in ("cpu", "cuda"):
        pinned = {line.partition("==")[0] for line in (ROOT / f"constraints/{kind}.txt").read_text().splitlines()}
        assert wanted - {"resa-hub"} - pinned == set(), kind


def pins(kind: str, machine: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(package, version) of the lines that count on a machine."""
    for requirement in map(Requirement, lines_of(kind)):
        if not requirement.marker or requirement.marker.evaluate(machine):
            yield canonicalize_name(requirement.name), str(requirement.specifier).removeprefix("==")


@cache
def needs_of(package: str, extra: str) -> tuple[Requirement, ...]:
    """What it asks for: this project by its own file, another one as it is installed here."""
    if package == "resa-hub":
        return tuple(map(Requirement, PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]))
    try:
        return tuple(map(Requirement, metadata.requires(package) or ()))
    except metadata.PackageNotFoundError:
        return ()


@cache
def version_here(package: str) -> str:
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def walk(platform: str, python: str, profile: str) -> tuple[set[str], list[str]]:
    """(packages that are reached from the project, what is unpinned or asked for in another version). A package whose
    version on that machine is not the one that is installed here is not looked into.
    """
    machine = environment(platform, python)
    pinned = dict(pins("cpu", machine))
    reached, wrong, ahead = set[tuple[str, str]](), list[str](), [("resa-hub", ""), ("resa-hub", profile)]
    while ahead:
        package, extra = at = ahead.pop()
        if at in reached or (package != "resa-hub" and pinned.get(package) != version_here(package)):
            continue
        reached.add(at)
        for need in needs_of(package, extra):
            name = canonicalize_name(need.name)
            if (need.marker and not need.marker.evaluate(machine | {"extra": extra})) or LEFT_OUT.match(name):
                continue
            if name != "resa-hub" and not (name in pinned and need.specifier.contains(pinned[name], prereleases=True)):
                wrong.append(f"{package} asks for {need}, the lock has {pinned.get(name)}")
            ahead += [(name, each) for each in ("", *need.extras)]
    return {package for package, _ in reached}, wrong


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize(("platform", "python"), MACHINES)
def test_every_machine_has_one_version_of_a_package(kind: str, platform: str, python: str) -> None:
    names = [name for name, _ in pins(kind, environment(platform, python))]
    assert len(names) == len(set(names)) > 150


@pytest.mark.parametrize("profile", ["", "dev"])
@pytest.mark.parametrize(("platform", "python"), MACHINES)
def test_what_is_installed_fits_the_locks_of_every_machine(platform: str, python: str, profile: str) -> None:
    reached, wrong = walk(platform, python, profile)
    assert wrong == [] and len(reached) > (120 if profile else 80) and "torch" in reached


def test_a_lock_that_does_not_fit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        re.sub("^(typer|rich)==.*", r"\1==0.1", line) for line in lines_of("cpu") if not line.startswith("jinja2==")
    ]
    monkeypatch.setattr("tests.test_locks.lines_of", lambda kind: lines)
    _, wrong = walk("macOS arm64", "3.14", "")
    assert {line.partition(" asks")[0] for line in wrong} >= {"resa-hub"}
    assert {"typer", "rich", "jinja2"} <= {re.split(r"[^\w]", line.split(" asks for ")[1])[0] for line in wrong}


def test_platforms_of_the_check_are_those_of_this_test_and_of_the_readme() -> None:
    assert lock_check.PLATFORMS.keys() == SYSTEMS.keys()
    readme = (ROOT / "README.md").read_text()
    assert [name for name in (*SYSTEMS, *lock_check.PYTHONS) if name not in readme] == []


@pytest.mark.slow
def test_uv_resolves_the_core_for_another_machine_and_refuses_what_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = lock_check.Cell("core", "macOS arm64", "3.14")
    packages, said = lock_check.resolve(cell)
    if "error sending request" in said or "dns error" in said:
        needs.missing("needs an index of packages", "a network that reaches one")
    assert packages > 100 and not said
    wheel_less = [
        part for part in lock_check.command(cell) if part not in lock_check.SOURCE_ONLY and part != "--no-binary"
    ]
    monkeypatch.setattr(lock_check, "command", lambda cell: wheel_less)
    packages, said = lock_check.resolve(cell)
    assert packages == 0 and "building from source is disabled" in said
    assert "none" in lock_check.table(
        {lock_check.Cell(*each): (0, said) for each in product(lock_check.PROFILES, SYSTEMS, lock_check.PYTHONS)}
    )
