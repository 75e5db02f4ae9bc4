"""`python -m bench [NAME ...]`: run the benches, all of them without names."""

import sys
from importlib import import_module

NAMES = ("door", "sae", "split")

for name in sys.argv[1:] or NAMES:
    print(f"\n{name}", flush=True)
    import_module(f".{name}", "bench").main()
