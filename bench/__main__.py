"""`python -m bench [NAME ...]`: run the benches, all of them without names."""

import sys
from importlib import import_module

NAMES = ("door", "sae", "split")
"""`family` (accuracy of the embedded models), `transfer` (which method transfers, ten minutes), `kl` (a real
vocabulary: 9 GB of memory, minutes), `lora` (the fused LoRA layer beside PEFT's),
`features` (feature-diff and its controls over three seeds, a quarter of an hour, resumable), `screens` (SAE size,
selection and scale, without training) and `coverage 1000` (of intervals and words) run when they are named.
"""

for name in [word for word in sys.argv[1:] if not word.isdecimal()] or NAMES:
    print(f"\n{name}", flush=True)
    import_module(f".{name}", "bench").main()
