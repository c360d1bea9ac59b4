"""The USB cable of the emulated Pico, which rp2040py has in for ever."""

from __future__ import annotations

from typing import Any

_SUSPEND_NS = 3_000_000  # silence on the bus after which a device is suspended (USB 2.0, 7.1.7.6)
_SIE_STATUS = 0x50  # RP2040 (pico-sdk, hardware/regs/usb.h)
_SUSPENDED = 1 << 4


class UsbCable:
    """In at first. MicroPython forces VBUS detection on, so that all a Pico with power of its own
    sees of a pulled cable is a bus that has fallen silent: suspend, and a bus reset when it is in
    again. What it wants to send meanwhile waits in its buffers."""

    def __init__(self, mcu: Any, cdc: Any) -> None:
        self._usb = mcu.usb_ctrl
        self._cdc = cdc
        self.plugged = True
        self._alarm = mcu.clock.create_alarm(self._suspend)
        self._transfer_other = self._usb.dpram_updated
        self._enabled_other = self._usb.on_usb_enabled
        self._write_other = self._usb.write_uint32
        self._usb.dpram_updated = self._transfer
        self._usb.on_usb_enabled = self._enabled
        self._usb.write_uint32 = self._write

    def unplug(self) -> None:
        """Pull it. May be called twice, as ``replug`` may."""
        if not self.plugged:
            return
        self.plugged = False
        self._usb.reset_alarm.cancel()
        for endpoint in (*self._usb.endpoint_read_alarms, *self._usb.endpoint_write_alarms):
            endpoint.alarm.cancel()
            endpoint.buffers = []
        self._usb.on_reset()
        self._alarm.schedule(_SUSPEND_NS)

    def replug(self, powered: bool) -> None:
        """Put it in; the host resets the bus and asks who is there."""
        if self.plugged:
            return
        self.plugged = True
        self._alarm.cancel()
        if powered:
            self._usb.reset_device()

    def _suspend(self) -> None:
        self._usb._sie_status |= _SUSPENDED
        self._usb._sie_status_updated()

    def _transfer(self, offset: int, value: int) -> None:
        if self.plugged:
            self._transfer_other(offset, value)

    def _enabled(self) -> None:
        if self.plugged:
            self._enabled_other()

    def _write(self, offset: int, value: int) -> None:
        self._write_other(offset, value)
        if offset == _SIE_STATUS and self._usb.raw_write_value & _SUSPENDED:
            self._usb._sie_status &= ~_SUSPENDED
            self._usb._sie_status_updated()
