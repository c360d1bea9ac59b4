"""Random numbers that are the same in both Pythons. Pure."""


class Random:
    """Knuth's MMIX linear congruential generator, its upper 40 bits."""

    def __init__(self, seed):
        self._state = seed * 2_654_435_761 + 1

    def below(self, limit):
        """A whole number from 0 to ``limit`` - 1; ``limit`` up to 2**40."""
        self._state = (self._state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        return (self._state >> 24) % limit

    def between(self, low, high):
        """A whole number from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)
