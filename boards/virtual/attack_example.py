"""An attack in twenty lines: write yours like it. Run it with
``cisterna bench attack --replay attack:1:SEC-4:example:0``.

The attacker hears a clinician stop the pump and resume it, and wants it stopped again. He owns the
wire and knows the protocol; he has no key.
"""

from attack_bed import CLINICIAN, SECOND_US, TO_PUMP, Bed, Programmer
from attack_session import each

from pump_wire.messages import RESUME, STOP


def example(request, tell):
    """SEC-4: everything that stopped the pump once is sent again, until it should stop again."""

    def attack(number, seed):
        bed = Bed(seed)
        clinician = Programmer(bed, CLINICIAN)
        clinician.open()
        clinician.command(STOP)
        clinician.command(RESUME)
        recorded = [packet for sender, packet in bed.heard if sender == TO_PUMP]
        before = bed.state()
        for packet in recorded:
            bed.exchange(packet)
        bed.live(10 * SECOND_US)
        bed.must_be(before, steps=10)
        return len(recorded)

    each(request, tell, attack)
