"""A campaign on a Dask cluster: ``--dask tcp://HOST:8786``, or ``--dask local`` for one that
starts here and ends with the run.

What goes to a worker is a campaign and IDs of cases, what comes back their results: no folder is
shared. Batches that go on from one another run on one worker, one after the other; when such a
chain was interrupted it begins anew. Every worker must have this firmware: its hash is compared.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cisterna.campaign import Batch, BrokenCampaign, Campaign, Result, firmware_hash
from cisterna.errors import CisternaError, quoted

_CONNECT_S = 20


def chains(batches: list[Batch], missing: set[str]) -> list[list[tuple[str, ...]]]:
    """What is to be run, by worker's piece: the cases of batches that go on from one another
    together, all of them, and of others those that are ``missing``."""
    head = list(range(len(batches)))  # index of the batch that each one's chain begins with
    for index, batch in enumerate(batches):
        if batch.after >= 0:
            head[index] = head[batch.after]
    found: list[list[tuple[str, ...]]] = []
    for first in dict.fromkeys(head):
        links = [batch.cases for batch, begin in zip(batches, head, strict=True) if begin == first]
        if len(links) == 1:
            links = [tuple(case for case in links[0] if case in missing)]
        if any(case in missing for cases in links for case in cases):
            found.append(links)
    return found


def work(campaign: Campaign, links: list[tuple[str, ...]]) -> tuple[str, list[Result]]:
    """On a worker: its firmware's hash, and the results of a chain."""
    with tempfile.TemporaryDirectory(prefix="cisterna-") as folder:
        results = [result for cases in links for result in campaign.run_batch(cases, Path(folder))]
    return firmware_hash(), results


def _distributed() -> Any:
    """The package, whose types are not for a type checker."""
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise CisternaError(
            "campaigns on a cluster need Dask", "install it: pip install distributed"
        ) from None


@contextmanager
def _client(address: str, workers: int) -> Generator[Any]:
    distributed = _distributed()
    if address == "local":
        with (
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = distributed.Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise CisternaError(
            f"no Dask scheduler at {quoted(address)}: {error}",
            "start one: dask scheduler, and on each machine dask worker tcp://HOST:8786",
        ) from None
    with client:
        yield client


def run(
    campaign: Campaign,
    batches: list[Batch],
    missing: set[str],
    address: str,
    workers: int,
    add: Callable[[Result], None],
) -> None:
    """Run what is ``missing`` on the cluster at ``address``; ``workers``: of a local one. Raises
    BrokenCampaign for a worker with other firmware."""
    pieces = chains(batches, missing)
    if not pieces:
        return
    own = firmware_hash()
    with _client(address, workers) as client:
        futures: list[Any] = [client.submit(work, campaign, each, pure=False) for each in pieces]
        try:
            for future in _distributed().as_completed(futures):
                theirs: str
                results: list[Result]
                theirs, results = future.result()
                if theirs != own:
                    raise BrokenCampaign(
                        f"a worker has firmware {theirs}, here it is {own}",
                        "check out the same commit there",
                    )
                for result in results:
                    if result.case in missing:
                        add(result)
        except BaseException:
            client.cancel(futures)
            raise
