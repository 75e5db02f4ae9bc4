"""A plugin with a row in every table: `RESA_HUB_PLUGINS=tests.plugins.everything`."""

METHODS = {
    "half-source": {
        "run": "tests.plugins.half_source:run",
        "about": "the source's own LoRA, half as strong",
        "trains_on": None,
    }
}
BENCHMARKS = {"digit-sums": "tests.plugins.digit_sums:DigitSums"}
ENGINES = {"parrot": "tests.plugins.parrot:Parrot"}
REMOTES = {
    "memory": {
        "implementation": "tests.plugins.memory:MemoryRemote",
        "place": "memory:PLACE",
        "version": "memory:PLACE",
        "example": "memory:place",
    }
}
COMMANDS = {"hello": "tests.plugins.hello:hello"}
