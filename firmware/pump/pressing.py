"""The patient's button. Takes memory only where a board has one."""

from pump.prescription import Refusal


async def hear(button, patient, annunciator):
    """A press asks for what the message does: the same checks, the same log."""
    while True:
        await button.wait_press()
        try:
            patient.apply_request_bolus(None)
            annunciator.announce()
        except Refusal:  # it is in the log
            pass
