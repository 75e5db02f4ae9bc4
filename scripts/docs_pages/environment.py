"""The environment variables that are read. A test holds the table against the package."""

from .markdown import code, table
from .markdown import page as whole

ABOUT = """What is set here holds for every command; an option of a command line beats it. `resa-hub doctor` shows the
variables that are set, and warns of names that begin with `RESA_HUB_` and mean nothing."""
OURS = {
    "RESA_HUB_WORKSPACE": "The folder that holds `adapters/`, where `--workspace` does not name one. Without both it "
    "is the nearest folder from here upwards that has `adapters/`, else the current one.",
    "RESA_HUB_PLUGINS": "Python modules, separated by commas, whose tables add methods, benchmarks, remotes, engines "
    "and verbs.",
    "RESA_HUB_STATE_SECONDS": "Seconds between two states that a running extraction keeps on disk; 30 by default, 0 "
    "after every step.",
    "RESA_HUB_TF32": "1: products in float32 on NVIDIA GPUs since Ampere take TensorFloat-32, which is faster and less "
    "exact; 0 by default.",
}
HUGGING_FACE = {
    "HF_ENDPOINT": "Address of the Hub or of a mirror; https://huggingface.co by default.",
    "HF_TOKEN": "Token for private and gated repositories; never shown, never written.",
    "HUGGING_FACE_HUB_TOKEN": "Older name of `HF_TOKEN`.",
    "HF_HOME": "Folder of the client's token and caches; `~/.cache/huggingface` by default.",
    "HF_HUB_CACHE": "Folder of models and data sets that were fetched; `hub` in `HF_HOME` by default.",
    "HF_HUB_OFFLINE": "1: ask nothing of the Hub, use what is in its cache.",
    "HF_HUB_DISABLE_PROGRESS_BARS": "Set by commands with `-q` or `--json`, and where no terminal reads.",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "The same of the library `datasets`.",
    "XDG_CACHE_HOME": "Folder of caches on Linux; `~/.cache` by default.",
    "XDG_CONFIG_HOME": "Folder of user configurations on Linux; `~/.config` by default.",
}
NETWORK = {
    "HTTPS_PROXY": "Proxy for https addresses.",
    "HTTP_PROXY": "Proxy for http addresses.",
    "NO_PROXY": "Hosts that are asked directly, separated by commas.",
    "SSL_CERT_FILE": "Certificates (PEM) that are trusted instead of the usual ones.",
}
MACHINE = {
    "UV_RUN_RECURSION_DEPTH": "Set by `uv run`: commands in hints begin as the one that was typed.",
    "CUDA_VISIBLE_DEVICES": "The GPUs that may be used, by number; shared out over `--workers`.",
    "OMP_NUM_THREADS": "Threads of one process; with `--workers` the cores are shared out where it is not set.",
    "RANK": "Number of this process; read only where torchrun started it.",
    "LOCAL_RANK": "Number of this process on its machine, and of its GPU; as `RANK`.",
    "WORLD_SIZE": "How many processes there are; as `RANK`.",
    "TORCHELASTIC_RUN_ID": "Set by torchrun: says that the three above are meant.",
    "RAY_ADDRESS": "The Ray cluster of `--executor ray`; without it one is started here.",
}
TERMINAL = {
    "NO_COLOR": "Anything: no colours and no bold.",
    "FORCE_COLOR": "Anything: colours also where no terminal reads.",
    "COLUMNS": "Width of tables where the terminal does not tell its own.",
}
SET_FOR_OTHERS = {
    "RAY_worker_niceness": "0, so that workers are not starved beside other load.",
    "TOKENIZERS_PARALLELISM": "false in lm-eval and inspect, against warnings after a fork.",
    "VLLM_CPU_KVCACHE_SPACE": "GB for keys and values on a CPU, from the size of the model.",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0 on a CPU: it starts in seconds.",
    "VLLM_LOGGING_LEVEL": "ERROR.",
    "VLLM_LOGGING_STREAM": "stderr, for stdout holds results.",
    "VLLM_NO_USAGE_STATS": "1: nothing is reported.",
}
GROUPS = {
    "Of resa-hub": OURS,
    "Of the Hub's client and its folders": HUGGING_FACE,
    "Of the network": NETWORK,
    "Of the machine": MACHINE,
    "Of the terminal": TERMINAL,
    "Set for other programs, unless they are set": SET_FOR_OTHERS,
}


def page() -> str:
    parts = []
    for title, variables in GROUPS.items():
        rows = [[code(name), meaning] for name, meaning in variables.items()]
        parts.append(f"## {title}\n\n{table(['variable', 'meaning'], rows)}")
    return whole("Environment variables", ABOUT, *parts)
