"""The patient's button. Takes memory only where a board has one."""

from pump.prescription import Refusal


class Pressing:
    """``button``: the driver's. ``patient``: the handlers of the patient's messages."""

    def __init__(self, button, patient, annunciator):
        self._button = button
        self._patient = patient
        self._annunciator = annunciator

    async def hear(self):
        """A press asks for what the message does: the same checks, the same log."""
        while True:
            await self._button.wait_press()
            try:
                self._patient.apply_request_bolus(None)
                self._annunciator.announce()
            except Refusal:  # it is in the log
                pass
