"""`resa-hub`: the command that `main` runs, made of the table of verbs."""

from .groups import root_command
from .verbs import COMMANDS

app = root_command(COMMANDS)
