"""Runs by the thousand in one MicroPython VM: a module of ``boards/virtual`` with the pump that
the firmware's own tests use."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cisterna.boards import project_root
from cisterna.campaign import BrokenCampaign
from cisterna.vm import find_vm

_HEAP = "64m"


def run(
    module: str,
    request: dict[str, Any],
    work: Path,
    tree: Path | None = None,
    heap: str = _HEAP,
) -> Iterator[dict[str, Any]]:
    """The JSON objects that ``module`` prints for ``request``, but its last, {"end"}.

    ``work``: a folder it may write in. ``tree``: folder whose firmware and boards are run; this
    project's by default. ``heap``: the VM's. Raises BrokenCampaign when it does not come to its
    end.
    """
    root = project_root()
    tree = tree or root
    folders = (tree / "firmware", root / "firmware" / "tests", tree / "boards" / "virtual")
    environment = {**os.environ, "MICROPYPATH": ":".join([*map(str, folders), ".frozen"])}
    (work / "request.json").write_text(json.dumps(request))
    with (
        (work / "request.json").open("rb") as asked,
        (work / "errors.txt").open("wb") as errors,
    ):
        process = subprocess.Popen(
            [find_vm(), "-X", f"heapsize={heap}", "-m", module],
            cwd=work,
            env=environment,
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    ended = False
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith(b"{"):
                continue  # what the pump printed
            told: dict[str, Any] = json.loads(line)
            if told.get("end") is True:
                ended = True
            else:
                yield told
        process.wait()
    finally:
        process.kill()
        process.wait()
    if not ended:
        last = (work / "errors.txt").read_text(errors="replace").strip()[-1500:]
        raise BrokenCampaign(f"{module} failed: {last}")
