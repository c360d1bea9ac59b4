"""A button on a pin.

Fulfils the button contract of ``drivers/README.md``.
"""


class ButtonPin:
    """``pin``: an input, pulled to the level of a button that is let go. ``active``: its level
    while the button is pressed."""

    def __init__(self, pin, active):
        self._pin = pin
        self._active = active

    def pressed(self):
        """Whether the button is down now. Allocates nothing."""
        return self._pin() == self._active
