"""One loaded model: loading, running parts of it, LoRA, KL, probes."""
