"""Entry point of the ``cisterna`` command: Ctrl-C ends it in words, also while it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, see ``cisterna.cli_app``."""
    try:
        from cisterna.cli_app import run

        return run(arguments)
    except KeyboardInterrupt:  # before the command began, or while it said why it ended
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
