"""What torchrun starts in the tests: the command line, in which one process can be made to fail or die in the middle of
stage II.
"""

import os
import sys

from resa_hub.cli.main import run


def main() -> int:
    way, rank, step = os.environ.get("FAIL", ""), os.environ.get("FAIL_RANK", ""), 3
    if way and os.environ["RANK"] == rank:
        from resa_hub.engine.methods import trainer

        update = trainer._TrainingRun.update

        def fails(self: trainer._TrainingRun, *arguments: object) -> None:
            if self.step == step:
                if way == "die":
                    os._exit(9)
                raise MemoryError
            update(self, *arguments)  # pyright: ignore[reportArgumentType]

        trainer._TrainingRun.update = fails  # pyright: ignore[reportAttributeAccessIssue]
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
