"""`python -m resa_hub`, as `torchrun -m resa_hub` needs it."""

from .cli.main import main

main()
