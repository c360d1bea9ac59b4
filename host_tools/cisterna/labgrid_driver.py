"""Boards of a labgrid lab as benches: ``--bench labgrid:ENVIRONMENT.yaml``.

``hil_tests/labgrid.example.yaml`` is such an environment. The place is reserved and acquired with
labgrid's own tools, which keep others from it, before a run::

    labgrid-client -p pump acquire
    pytest hil_tests --bench labgrid:labgrid.yaml
    labgrid-client -p pump release

Needs the package labgrid: ``pip install labgrid``.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false
# (labgrid is there only where somebody installed it)
from __future__ import annotations

from pathlib import Path
from typing import Any

import attr
from labgrid import Environment
from labgrid.driver import Driver
from labgrid.exceptions import NoResourceFoundError
from labgrid.factory import target_factory
from labgrid.util.proxy import proxymanager

from cisterna.bench import SerialBench
from cisterna.errors import CisternaError, NoPump, UsageError

_TARGET = "main"


def port_url(port: Any) -> str:
    """The pyserial URL of a SerialPort or a NetworkSerialPort, through labgrid's proxy if it has
    one. Raises UsageError for a protocol that pyserial has not."""
    protocol = getattr(port, "protocol", None)
    if protocol is None:
        return str(port.port)
    host, number = proxymanager.get_host_and_port(port)
    scheme = {"raw": "socket", "rfc2217": "rfc2217"}.get(protocol)
    if scheme is None:
        raise UsageError(f"a serial port by {protocol}; there are: raw, rfc2217")
    return f"{scheme}://{host}:{number}"


@target_factory.reg_driver
@attr.s(eq=False)
class CisternaPumpDriver(Driver):
    """A pump on a serial port of the lab; with a power driver its power too. ``bench()`` is
    what tests use."""

    bindings = {"port": {"SerialPort", "NetworkSerialPort"}, "power": {"PowerProtocol", None}}  # noqa: RUF012

    @Driver.check_active
    def bench(self) -> LabBench:
        """The pump as a bench. Raises NoPump."""
        return LabBench(self)


class LabBench(SerialBench):
    """A board that labgrid has; real time passes."""

    name = "labgrid"

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._on = True
        if driver.power is not None:
            self.offers = SerialBench.offers | {"power"}
        super().__init__(port_url(driver.port))

    def cut_power(self) -> None:
        if self._driver.power is None:
            raise self._lacking("power")
        self._driver.power.off()
        self._on = False

    def power_on(self) -> None:
        if self._driver.power is None:
            raise self._lacking("power")
        self._driver.power.on()
        self._on = True
        self.wait_answer()

    @property
    def powered(self) -> bool:
        return self._on

    def close(self) -> None:
        if not self._on:
            self.power_on()
        self._driver.target.cleanup()


def open_lab(text: str) -> LabBench:
    """The bench of ``ENVIRONMENT.yaml`` or ``ENVIRONMENT.yaml:TARGET``. Raises UsageError,
    CisternaError when the place cannot be had, NoPump."""
    path, _, target_name = text.partition(":")
    if not Path(path).is_file():
        raise UsageError(f"there is no labgrid environment {path}")
    try:
        target = Environment(path).get_target(target_name or _TARGET)
        if target is None:
            raise UsageError(f"{path} has no target {target_name or _TARGET}")
        driver = target.get_driver("CisternaPumpDriver")
    except (UsageError, NoPump):
        raise
    except NoResourceFoundError as error:
        raise CisternaError(
            f"labgrid: {error}", "acquire the place: labgrid-client -p NAME acquire"
        ) from error
    except Exception as error:
        raise CisternaError(
            f"labgrid: {type(error).__name__}: {error}",
            "is the coordinator there, and the place acquired? labgrid-client -p NAME acquire",
        ) from error
    return driver.bench()
