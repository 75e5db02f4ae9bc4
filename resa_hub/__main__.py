"""`python -m resa_hub`, as `torchrun -m resa_hub` needs it."""

from .cli.app import main

main()
