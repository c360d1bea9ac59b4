"""Runs by the thousand in one MicroPython VM: a module of ``boards/virtual`` with the pump that
the firmware's own tests use."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cisterna.boards import project_root
from cisterna.campaign import BrokenCampaign, Campaign, Setting
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


class VmCampaign(Campaign):
    """A campaign whose cases are runs of ``module``, in a VM with ``heap``. ``tree``: folder whose
    firmware and boards are run; this project's by default."""

    module: str
    heap: str = _HEAP

    def __init__(self, seed: int, setting: Setting, tree: Path | None = None) -> None:
        super().__init__(seed, setting)
        self.tree = tree

    def ask(self, **request: Any) -> Iterator[dict[str, Any]]:
        """What the module prints for ``request`` and this campaign's seed, in a folder of its
        own. Raises BrokenCampaign."""
        with tempfile.TemporaryDirectory(prefix="cisterna-") as work:
            asked = {"seed": self.seed, **request}
            yield from run(self.module, asked, Path(work), self.tree, self.heap)


def retold(told: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The lines of a replay: the texts of a run, and the verdict on what it ended with."""
    why = ""
    for each in told:
        if "text" in each:
            yield each["text"]
        else:
            why = each["why"]
    yield f"verdict: {why or 'all holds'}"
