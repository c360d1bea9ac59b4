"""The plant: the physics around one pump. Pure; runs in both Pythons, inside the virtual board and
beside the emulator. What it says is the truth that tests compare with.

Motor -> rotor -> reservoir -> tubing and catheter -> tip. All volumes in whole picolitres.

Constants, their only home:
- pump tubing 0.140 mL (PRODUCT.md; 0.199 mL in its place was a Class I recall)
- catheter 0.0022 mL/cm (PRODUCT.md), implanted length 80 cm unless the bench says otherwise
- 1.4 mL of the reservoir cannot be delivered (PRODUCT.md)
- a battery of 3.0 V (convention: the nominal voltage of a lithium primary cell) unless the bench
  says otherwise
- a rotor sensor with a line for every 2 motor steps unless the board says otherwise (convention: a
  code wheel of 100 lines on a motor of 200 steps; its level changes with each step, and the rotor
  rests in the middle of a line or of a gap)
"""

TUBING_PL = 140_000_000
CATHETER_PL_PER_CM = 2_200_000
UNUSABLE_PL = 1_400_000_000
_RESERVOIR_PL = 20_000_000_000
_CATHETER_CM = 80
_BATTERY_MV = 3_000
_MOST_BATTERY_MV = 20_000  # more is a slip of the finger
_STEPS_PER_PULSE = 2
_MILLION = 1_000_000
_DAY_US = 86_400_000_000

# Faults: (attribute, usual amount, lowest, highest, unit of the amount).
FAULTS = {
    "stall": ("stall_in", 0, 0, 0, ""),
    "slip": ("slip_ppm", 100_000, -1_000_000, 1_000_000, "ppm of the pulses without a step"),
    "free_run": ("free_run", 10, 1, 100, "steps a second"),
    "leak": ("leak_pl_day", 100_000_000, 1, 10**12, "pL a day, out of the reservoir"),
    "occlusion": ("occlusion_pl", 5_000_000, 0, 10**9, "pL that the tubing before it still takes"),
    "empty": ("residual_pl", 0, 0, 0, ""),
    "sensor_stuck": ("sensor_stuck", 1, 1, 1, ""),
    "sensor_noisy": ("sensor_noise", 10, 1, 10**6, "steps for a pulse too many"),
    "battery_sag": ("sag_mv", 500, 1, 20_000, "mV under load"),
}


class Plant:
    """``pulses``: pulses that reached the motor. ``steps``: steps the rotor followed forward.
    ``reverse_steps``: backward. ``delivered_pl``: volume that left the reservoir by the pump.
    ``residual_pl``: volume in the reservoir. ``tip_pl``: volume that left the catheter's tip.
    ``rotor_pulses``: rising edges of the rotor sensor, one for every ``steps_per_pulse`` (even)
    steps that the rotor goes in one direction. ``battery_mv``: the battery's voltage. ``ng_ml``:
    drug in the reservoir. ``fills``: [delivered_pl when it began to leave the reservoir, ng_ml] of
    each concentration so far: what is where in tubing and catheter follows from it, see
    ``tip_mass`` and ``tip_mixed_ng``.
    """

    def __init__(
        self,
        step_pl,
        reservoir_pl=_RESERVOIR_PL,
        catheter_cm=_CATHETER_CM,
        steps_per_pulse=_STEPS_PER_PULSE,
    ):
        if steps_per_pulse < 2 or steps_per_pulse % 2:
            raise ValueError("%d steps for a rotor pulse: even, and at least 2" % steps_per_pulse)
        self.step_pl = step_pl
        self.residual_pl = reservoir_pl
        self.dead_pl = TUBING_PL + CATHETER_PL_PER_CM * catheter_cm
        self.delivered_pl = 0
        self.pulses = 0
        self.steps = 0
        self.reverse_steps = 0
        self.steps_per_pulse = steps_per_pulse
        self.rotor_pulses = 0
        self.battery_mv = _BATTERY_MV
        self.ng_ml = 0
        self.fills = [[0, 0]]
        self.stall_in = -1  # steps the rotor still follows before it stalls, -1: it does not
        self.slip_ppm = 0  # of the pulses so many have no step; below 0: have one more
        self.slip_rest = 0
        self.occlusion_pl = -1  # volume that the tubing behind an occlusion still takes, -1: free
        self.sensor_stuck = 0
        self.sensor_noise = 0  # a pulse too many for every so many steps, 0: none
        self.free_run = 0  # steps a second that the rotor makes by itself while it is driven
        self.leak_pl_day = 0
        self.leak_rest = 0
        self.sag_mv = 0  # by so much the battery's voltage falls under load

    def move(self, pulses, forward=True):
        """``pulses`` (>= 0) pulses reach the motor; returns the steps that the rotor followed."""
        self.pulses += pulses
        moved = pulses
        if self.slip_ppm:
            self.slip_rest += pulses * self.slip_ppm
            lost = self.slip_rest // _MILLION
            self.slip_rest -= lost * _MILLION
            moved = max(0, moved - lost)
        if self.occlusion_pl >= 0 and forward:
            room = self.occlusion_pl // self.step_pl
            if moved > room:
                moved = room
            self.occlusion_pl -= moved * self.step_pl
        return self.turn(moved, forward)

    def turn(self, moved, forward=True):
        """The rotor makes ``moved`` steps, unless it is stalled; returns how many it made."""
        if self.stall_in >= 0:
            if moved > self.stall_in:
                moved = self.stall_in
            self.stall_in -= moved
        line = self.steps_per_pulse
        at = self.steps - self.reverse_steps
        if not forward:
            self.reverse_steps += moved
            self.rotor_pulses += at // line - (at - moved) // line
            return moved
        self.steps += moved
        if not self.sensor_stuck:
            self._pass_lines(moved)
        self._give(moved * self.step_pl)
        return moved

    def _pass_lines(self, moved):
        """The rotor sensor sees ``moved`` steps that were made."""
        line = self.steps_per_pulse
        at = self.steps - self.reverse_steps + line // 2
        self.rotor_pulses += at // line - (at - moved) // line
        if self.sensor_noise:
            before = self.steps - moved
            self.rotor_pulses += self.steps // self.sensor_noise - before // self.sensor_noise

    def _give(self, volume):
        """``volume`` leaves the reservoir by the pump, or what it can give."""
        usable = self.residual_pl - UNUSABLE_PL
        if volume > usable:
            volume = usable if usable > 0 else 0
        self.residual_pl -= volume
        self.delivered_pl += volume

    @property
    def rotor_level(self):
        """Level of the rotor sensor now: high in the second half of each line."""
        if self.sensor_stuck:
            return 0
        line = self.steps_per_pulse
        return int((self.steps - self.reverse_steps) % line >= line // 2)

    @property
    def stalled(self):
        """True while the rotor no longer follows."""
        return self.stall_in == 0

    @property
    def tip_pl(self):
        """Volume that left the tip, tubing and catheter having been empty at the start."""
        return max(0, self.delivered_pl - self.dead_pl)

    def inject(self, name, after_steps=0, amount=None):
        """Start fault ``name`` of FAULTS, with ``amount`` in its unit; "stall" after
        ``after_steps`` further steps. Raises ValueError."""
        if name not in FAULTS:
            raise ValueError(
                "the plant knows no fault %r; it knows: %s" % (name, ", ".join(FAULTS))
            )
        if after_steps < 0:
            raise ValueError("after_steps %d is below 0" % after_steps)
        field, usual, low, high, _ = FAULTS[name]
        if amount is None:
            amount = usual
        if not low <= amount <= high:
            raise ValueError("%s of %d: %d to %d" % (name, amount, low, high))
        if name == "stall":
            amount = after_steps
        elif name == "empty":
            amount = UNUSABLE_PL
        setattr(self, field, amount)

    def clear(self, name):
        """End fault ``name``. Raises ValueError for one it does not know. What leaked, or was
        emptied, is not put back."""
        if name not in FAULTS:
            raise ValueError(
                "the plant knows no fault %r; it knows: %s" % (name, ", ".join(FAULTS))
            )
        if name in ("stall", "occlusion"):
            setattr(self, FAULTS[name][0], -1)
        elif name != "empty":
            setattr(self, FAULTS[name][0], 0)

    def pass_time(self, us):
        """``us`` of time pass: what leaks, leaks."""
        if self.leak_pl_day:
            self.leak_rest += us * self.leak_pl_day
            lost = self.leak_rest // _DAY_US
            self.leak_rest -= lost * _DAY_US
            self.residual_pl = max(0, self.residual_pl - lost)

    @property
    def loaded_mv(self):
        """The battery's voltage while the pump draws from it."""
        return max(0, self.battery_mv - self.sag_mv)

    def set_battery(self, battery_mv):
        """The battery has ``battery_mv`` (0 to 20,000) from now on. Raises ValueError."""
        if not 0 <= battery_mv <= _MOST_BATTERY_MV:
            raise ValueError("battery of %d mV: 0 to %d" % (battery_mv, _MOST_BATTERY_MV))
        self.battery_mv = battery_mv

    def tip_mass(self):
        """Drug that left the tip if fluid moves through tubing and catheter as a plug, exactly: in
        units of 1 pL x 1 ng/mL, 10**9 of which are a nanogram."""
        tip = self.tip_pl
        mass = 0
        end = tip
        for begun, ng_ml in reversed(self.fills):
            if begun < end:
                mass += (end - begun) * ng_ml
                end = begun
        return mass

    def tip_mixed_ng(self):
        """The same in ng if the tubing were one stirred vessel and the catheter a plug, whole
        ng: the other extreme, which a true front lies between."""
        from math import exp

        x = self.delivered_pl - (self.dead_pl - TUBING_PL)  # what has left the tubing
        mass = inside = 0.0  # left the tubing; ng/mL in it
        for i, (begun, ng_ml) in enumerate(self.fills):
            end = self.fills[i + 1][0] if i + 1 < len(self.fills) else x
            volume = min(end, x) - begun
            if volume <= 0:
                break
            after = ng_ml + (inside - ng_ml) * exp(-volume / TUBING_PL)
            mass += ng_ml * volume + TUBING_PL * (inside - after)
            inside = after
        return int(mass / 1e9)

    def refill(self, fill_pl, ng_ml=None, rest_pl=0):
        """Aspirate all that is in the reservoir but ``rest_pl``, put ``fill_pl`` of ``ng_ml`` in
        (None: as before); returns the aspirated."""
        if fill_pl < 0:
            raise ValueError("fill of %d pL is below 0" % fill_pl)
        if not 0 <= rest_pl <= self.residual_pl:
            raise ValueError("a rest of %d pL, %d are there" % (rest_pl, self.residual_pl))
        aspirated = self.residual_pl - rest_pl
        self.residual_pl = fill_pl + rest_pl
        if ng_ml is not None and self.residual_pl:
            mixed = (fill_pl * ng_ml + rest_pl * self.ng_ml) // self.residual_pl
            self.ng_ml = mixed
            if self.fills[-1][0] == self.delivered_pl:
                self.fills.pop()
            self.fills.append([self.delivered_pl, mixed])
        return aspirated

    def state(self):
        """All of it as a dict of integers; ``restore`` takes it back."""
        values = {name: getattr(self, name) for name in _STATE}
        values["fills"] = [list(fill) for fill in self.fills]
        return values

    def restore(self, state):
        """Become the plant that ``state`` describes. What a state saved by an older plant lacks
        stays as it is."""
        for name in _STATE:
            if name in state:
                setattr(self, name, state[name])
        if "fills" in state:
            self.fills = [list(fill) for fill in state["fills"]]


_STATE = (
    "step_pl",
    "residual_pl",
    "dead_pl",
    "delivered_pl",
    "pulses",
    "steps",
    "reverse_steps",
    "steps_per_pulse",
    "rotor_pulses",
    "battery_mv",
    "ng_ml",
    "stall_in",
    "slip_ppm",
    "slip_rest",
    "occlusion_pl",
    "sensor_stuck",
    "sensor_noise",
    "free_run",
    "leak_pl_day",
    "leak_rest",
    "sag_mv",
)
