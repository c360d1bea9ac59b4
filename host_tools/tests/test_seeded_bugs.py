"""Bugs put into a copy of the firmware, one at a time: a firmware test must find each of them.

What a safety or storage test is worth shows only when what it guards is broken. A bug here is one
piece of source replaced; when the source has changed so that the piece is no longer there once,
the test says so, and the bug must be seeded anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from cisterna.vm import find_vm

ROOT = Path(__file__).parents[2]
HEAP = "256wk"  # in words of 32 bits; more than a board has: sources are compiled here
TIMEOUT_S = 60.0


@dataclass
class Bug:
    """``right`` in ``source`` (a path from the root) becomes ``wrong``; ``test``
    ("file::function") must then fail."""

    name: str
    source: str
    right: str
    wrong: str
    test: str


BUGS = (
    Bug(
        "a self-test that failed is forgotten",
        "firmware/pump/starting.py",
        "    if failed and not app.faults.code:\n",
        "    if False:\n",
        "test_selftest.py::test_whatever_is_broken_is_named_and_nothing_moves",
    ),
    Bug(
        "a firmware file may be another one than its list says",
        "firmware/pump/selftest.py",
        "                if _crc(name, piece) != int(crc, 16):\n",
        "                if False:\n",
        "test_selftest.py::test_whatever_is_broken_is_named_and_nothing_moves",
    ),
    Bug(
        "the watchdog is fed whoever is missing",
        "firmware/pump/supervisor.py",
        "            elif watchdog is not None:\n                watchdog.feed()\n",
        "            if watchdog is not None:\n                watchdog.feed()\n",
        "test_supervisor.py::test_the_watchdog_bites_when_a_task_is_gone",
    ),
    Bug(
        "a motion that does not come back is not missed",
        "firmware/pump/supervisor.py",
        "if due_us is not None and now_us > due_us + _LATE_US:",
        "if False:",
        "test_supervisor.py::test_the_watchdog_bites_when_motion_does_not_come_back",
    ),
    Bug(
        "motion that ended with a fault is taken for one that hangs",
        "firmware/pump/motion.py",
        "            self.due_us = None  # what fails here latches,",
        "            #",
        "test_supervisor.py::test_a_latched_fault_is_no_hang",
    ),
    Bug(
        "the marks of the limits keep stalled volume that has left the account",
        "firmware/pump/limits.py",
        "        if steps < self._seen:\n            self._lower(steps)\n",
        "        if steps < self._seen:\n",
        "test_therapy.py::test_limits_count_what_moved_in_a_stall_too",
    ),
    Bug(
        "the account takes no stalled volume out",
        "firmware/pump/ledger.py",
        "        return self._start_steps + self._emitted() - self.missed\n",
        "        return self._start_steps + self._emitted()\n",
        "test_flow.py::test_stalled_volume_leaves_the_account_and_recovery_is_a_record",
    ),
    Bug(
        "at the end of service delivery goes on",
        "firmware/pump/battery.py",
        '        if self._out >= _TIMES:\n            self._alarms.begin("battery_eos")\n',
        "",
        "test_supervisor.py::test_eos_stops_delivery",
    ),
    Bug(
        "a stall is taken for steps that moved",
        "firmware/pump/flow.py",
        "        self._ledger.miss(more)\n",
        "",
        "test_flow.py::test_stalled_volume_leaves_the_account_and_recovery_is_a_record",
    ),
    Bug(
        "a stall is seen after more steps than it may take",
        "firmware/pump/flow.py",
        "elif steps - self._seen_steps > self._per:",
        "elif steps - self._seen_steps > 20 * self._per:",
        "test_flow.py::test_stall_is_seen_in_time_at_any_rate",
    ),
    Bug(
        "what a stall took out comes back with a restart",
        "firmware/pump/ledger.py",
        "self._store(self._start_steps + issued - self.missed, bolus)",
        "self._store(self._start_steps + issued, bolus)",
        "test_flow.py::test_what_a_stall_took_out_stays_out_over_a_restart",
    ),
    Bug(
        "a rotor that runs free is only told of",
        "firmware/pump/flow.py",
        "if followed - made >= _FREE_STEPS and not self.ran_free:",
        "if False:",
        "test_flow.py::test_free_run_is_stopped_within_a_second",
    ),
    Bug(
        "the window of over- and under-infusion is twice as long as it may be",
        "firmware/pump/flow.py",
        "_OFF = const(20)",
        "_OFF = const(40)",
        "test_flow.py::test_off_by_six_percent_alarms_within_five_minutes_of_crossing",
    ),
    Bug(
        "the last alarm decides, not the most restrictive",
        "firmware/pump/alarms.py",
        "if each.stands and ALARM_ACTION[each.code] > action:",
        "if each.stands:",
        "test_alarms.py::test_the_most_restrictive_action_wins",
    ),
    Bug(
        "silence is for ever",
        "firmware/pump/alarms.py",
        "                elif each.state == SILENCED:\n                    each.state = PENDING\n",
        "                elif each.state == SILENCED:\n                    pass\n",
        "test_alarms.py::test_silence_ends_and_a_new_alarm_is_heard_all_the_same",
    ),
    Bug(
        "an acknowledged cause never alarms again",
        "firmware/pump/alarms.py",
        "                    self._raise(each.code, True)\n",
        "                    pass\n",
        "test_alarms.py::test_a_standing_cause_alarms_again_after_acknowledgement",
    ),
    Bug(
        "an alarm that stops delivery is only shown",
        "firmware/pump/delivery.py",
        "        if self.held == STOP_ALL:\n",
        "        if False:\n",
        "test_alarms.py::test_an_alarm_that_stops_delivery_stops_it_and_lets_it_go_on",
    ),
    Bug(
        "a segment is accounted for after it is handed to the step generator",
        "firmware/pump/motion.py",
        """        self._ledger.reserve(schedule.issued)
        self._stepper.queue(
            schedule.first_us, schedule.slack, schedule.spacing, schedule.rate, count
        )
""",
        """        self._stepper.queue(
            schedule.first_us, schedule.slack, schedule.spacing, schedule.rate, count
        )
        self._ledger.reserve(schedule.issued)
""",
        "test_motion.py::test_a_segment_is_durable_before_its_first_pulse",
    ),
    Bug(
        "the account is written when steps are out, not before",
        "firmware/pump/ledger.py",
        "self._store(self._start_steps + issued - self.missed, bolus)",
        "self._store(self.moved(), self.bolus_steps())",
        "test_ledger.py::test_account_of_a_power_cut_is_never_too_low",
    ),
    Bug(
        "the same, in a whole pump whose power is cut",
        "firmware/pump/ledger.py",
        "self._store(self._start_steps + issued - self.missed, bolus)",
        "self._store(self.moved(), self.bolus_steps())",
        "test_motion.py::test_account_is_never_too_low_after_a_cut_at_a_random_instant",
    ),
    Bug(
        "the count of steps is not flushed",
        "firmware/pump/journal.py",
        "        file.flush()\n",
        "",
        "test_journal.py::test_hot_record_is_durable_when_store_returns",
    ),
    Bug(
        "the CRC of the count of steps is not checked",
        "firmware/pump/journal.py",
        'if unpack_from("<I", raw, self._size)[0] != crc32(raw[: self._size]):',
        "if False:",
        "test_journal.py::test_hot_record_refuses_every_flipped_bit",
    ),
    Bug(
        "the CRC of a copy of the settings is not checked",
        "firmware/pump/journal.py",
        'if unpack_from("<I", raw, _HEAD_SIZE + length)[0] != crc32(raw[: _HEAD_SIZE + length]):',
        "if False:",
        "test_journal.py::test_two_copies_refuse_every_flipped_bit",
    ),
    Bug(
        "the newest settings are in one copy only",
        "firmware/pump/journal.py",
        "        self._write(1 - older, record)\n",
        "",
        "test_delivery.py::test_halted_survives_damage_to_either_copy",
    ),
    Bug(
        "the only good copy is written over first",
        "firmware/pump/journal.py",
        "        older = 1 - self._newest\n",
        "        older = self._newest\n",
        "test_journal.py::test_the_copy_that_is_worth_less_is_written_over_first",
    ),
    Bug(
        "damaged settings are taken for none",
        "firmware/pump/journal.py",
        "            if self.damaged_copies:\n",
        "            if False:\n",
        "test_delivery.py::test_settings_both_damaged_deliver_nothing_and_say_why",
    ),
    Bug(
        "a halt writes over an account that could not be read",
        "firmware/pump/ledger.py",
        "        if self._known:\n            self._store(self.moved(), self.bolus_steps())",
        "        if True:\n            self._store(self.moved(), self.bolus_steps())",
        "test_delivery.py::test_account_damaged_delivers_nothing_until_a_refill_and_a_restart",
    ),
    Bug(
        "steps that were not emitted are not given back",
        "firmware/pump/schedule.py",
        "        self._phase += count * self.spacing\n",
        "",
        "test_schedule.py::test_random_rate_changes_lose_and_add_nothing",
    ),
    Bug(
        "motion forgets to give back what was not emitted",
        "firmware/pump/motion.py",
        "            schedule.give_back(schedule.issued - emitted)\n",
        "            pass\n",
        "test_motion.py::test_random_commands_lose_and_add_nothing",
    ),
    Bug(
        "the part of a step that was due is dropped when the rate changes",
        "firmware/pump/schedule.py",
        "        self.rate = rate_nl_day\n        self._left = None\n",
        "        self.rate = rate_nl_day\n        self._left = None\n        self._phase = 0\n",
        "test_schedule.py::test_random_rate_changes_lose_and_add_nothing",
    ),
    Bug(
        "the remainder of each segment is dropped",
        "firmware/pump/schedule.py",
        "        self._phase += units - most * spacing\n",
        "        self._phase = 0\n",
        "test_schedule.py::test_no_drift_after_a_hundred_thousand_segments",
    ),
    Bug(
        "a stop is forgotten over a restart",
        "firmware/pump/delivery.py",
        "self._store.commit(self._store.current, True)",
        "self._store.halted = True",
        "test_delivery.py::test_halted_survives_a_restart",
    ),
    Bug(
        "a stop is forgotten with a new prescription",
        "firmware/pump/delivery.py",
        "store.commit(prescription, store.halted, bridge)",
        "store.commit(prescription, False, bridge)",
        "test_delivery.py::test_a_new_prescription_keeps_a_stop",
    ),
    Bug(
        "a bolus slower than the basal rate is given",
        "firmware/pump/planning.py",
        "    if rate < basal: ",
        "    if rate < 1: ",
        "test_limits.py::test_bolus_slower_than_the_basal_rate_is_refused",
    ),
    Bug(
        "a bolus as fast as the basal rate is refused",
        "firmware/pump/planning.py",
        "    if rate < basal: ",
        "    if rate <= basal: ",
        "test_limits.py::test_bolus_as_fast_as_the_basal_rate_is_given",
    ),
    Bug(
        "a bolus smaller than a step is given",
        "firmware/pump/planning.py",
        "    if volume_nl * 1000 < ledger.step_pl:\n",
        "    if False:\n",
        "test_limits.py::test_bolus_smaller_than_a_step_is_refused",
    ),
    Bug(
        "a refill of the unusable volume is taken",
        "firmware/pump/therapy.py",
        'if request["fill_nl"] + rest_nl <= unusable_nl:',
        'if request["fill_nl"] + rest_nl < unusable_nl:',
        "test_limits.py::test_refill_that_fills_no_more_than_the_unusable_volume_is_refused",
    ),
    Bug(
        "the capacity is compared with a residual rounded down",
        "firmware/pump/prescribing.py",
        "residual_nl = ceil_div(self._ledger.residual_pl(), 1000)",
        "residual_nl = self._ledger.residual_pl() // 1000",
        "test_limits.py::test_capacity_below_the_expected_residual_is_refused",
    ),
    Bug(
        "a fault does not halt the step generator",
        "firmware/pump/starting.py",
        "    app.faults.stops.append(board.stepper.halt)\n",
        "",
        "test_stopping.py::test_a_task_that_raises_stops_the_motor",
    ),
    Bug(
        "a bolus begins although halting for it found a fault",
        "firmware/pump/delivery.py",
        "        self.refuse_if_latched()\n        self._ledger.bolus_begins()\n",
        "        self._ledger.bolus_begins()\n",
        "test_stopping.py::test_a_pulse_too_many_seen_by_a_command_starts_nothing",
    ),
    Bug(
        "an exception in a task is printed and forgotten",
        "firmware/pump/app.py",
        "        self.faults.latch_error(error, where, name)\n",
        "",
        "test_stopping.py::test_a_task_that_raises_stops_the_motor",
    ),
    Bug(
        "the first segment is fed outside any guarded task",
        "firmware/pump/motion.py",
        "        self._task = start_task(self._run)\n",
        "        self.kick()\n",
        "test_storage_failure.py::test_storage_that_fails_from_any_moment_of_a_start_is_a_fault_that_can_be_read",
    ),
    Bug(
        "pulses too many are not looked for",
        "firmware/pump/motion.py",
        "                if outstanding < 0:\n",
        "                if False:\n",
        "test_stopping.py::test_a_step_generator_that_emits_too_many_is_stopped",
    ),
    Bug(
        "pulses that do not come are waited for without end",
        "firmware/pump/motion.py",
        "_LATE_US = 100_000 ",
        "_LATE_US = 1 << 60 ",
        "test_stopping.py::test_a_step_generator_that_falls_silent_is_noticed",
    ),
    Bug(
        "the link keeps the processor while octets come",
        "firmware/pump/link.py",
        "                await asyncio.sleep_ms(0)",
        "                pass",
        "test_stopping.py::test_a_flooded_link_lets_other_tasks_run",
    ),
    Bug(
        "a token can be used twice",
        "firmware/pump/commands.py",
        """            return self._confirmed[1]  # asked again: done once, same answer
        prepared = self._prepared
        if prepared is None or token != prepared[0]:
            raise Refusal("bad_token")
        self._prepared = None
""",
        """            pass
        prepared = self._prepared
        if prepared is None or token != prepared[0]:
            raise Refusal("bad_token")
""",
        "test_commands.py::test_a_token_is_good_once",
    ),
    Bug(
        "a token is good for ever",
        "firmware/pump/commands.py",
        "        if self._clock.now_us() > prepared[3]:\n",
        "        if False:\n",
        "test_commands.py::test_a_token_is_good_for_thirty_seconds",
    ),
    Bug(
        "a repeated request is not answered again",
        "firmware/pump/link.py",
        "        if session is sessions.active and packet == self._request:\n",
        "        if False:\n",
        "test_link.py::test_a_repeated_request_gets_the_same_reply_and_is_not_carried_out_again",
    ),
    Bug(
        "the unusable volume is used",
        "firmware/pump/delivery.py",
        "_UNUSABLE_PL = 1_400_000_000",
        "_UNUSABLE_PL = 1_300_000_000",
        "test_reservoir.py::test_low_and_empty_at_exact_thresholds",
    ),
    Bug(
        "a motor that moved nothing is not flagged at the refill",
        "firmware/pump/refilling.py",
        "or (ledger.refills > 0 and true <= 0 and programmed_pl >= _JUDGED_PL)",
        "or False",
        "test_ledger.py::test_a_pump_that_moved_nothing_is_flagged_however_little_was_asked",
    ),
    Bug(
        "event numbers begin again with each slot at a start",
        "firmware/pump/recordlog.py",
        "        self.next = newest + count\n",
        "        self.next = newest\n",
        "test_eventlog.py::test_numbers_go_on_over_restarts_at_random_moments",
    ),
    Bug(
        "a damaged slot that may be the newest counts as empty",
        "firmware/pump/recordlog.py",
        "            count = self._per_slot\n",
        "            count = 0\n",
        "test_eventlog.py::test_no_damage_takes_a_number_back",
    ),
    Bug(
        "slots are written over that a cut kept from being filed",
        "firmware/pump/recordlog.py",
        "        if self._file_size(last) == batch * self._size:\n",
        "        if self._file_size(last) >= 0:\n",
        "test_eventlog.py::test_a_power_cut_at_any_flash_operation_loses_at_most_the_record_in_flight",
    ),
    Bug(
        "settings in memory are not checked before a segment",
        "firmware/pump/motion.py",
        "        self.check_settings()\n",
        "",
        "test_dose_in_memory.py::test_every_flipped_bit_of_the_prescription_stops_before_the_next_segment",
    ),
    Bug(
        "the numbers of the programme are not checked before a segment",
        "firmware/pump/motion.py",
        "        if not schedule.is_whole():\n",
        "        if False:\n",
        "test_dose_in_memory.py::test_every_flipped_bit_of_the_programme_stops_before_the_next_segment",
    ),
    Bug(
        "a copy that was left behind stays behind",
        "firmware/pump/journal.py",
        "        self.mended = same == 1\n",
        "        self.mended = False\n",
        "test_journal.py::test_copies_that_differ_are_made_equal_at_the_start",
    ),
    Bug(
        "the end of a bolus counts as told before it is in the log",
        "firmware/pump/ledger.py",
        "        self._bolus_steps += moved\n",
        "        self._bolus_steps += moved\n        self._open_event = 0\n",
        "test_power_loss.py::test_a_cut_at_any_operation_around_a_bolus_tells_its_end_once",
    ),
    Bug(
        "a bolus that a cut ended is not told",
        "firmware/pump/starting.py",
        "    if ledger.interrupted:\n",
        "    if False:\n",
        "test_power_loss.py::test_a_cut_in_a_bolus_is_told_with_what_it_moved",
    ),
    Bug(
        "the ticks' wrap is not seen",
        "firmware/pump/clock.py",
        "self._now += (ticks - self._last) & self._mask",
        "self._now += ticks - self._last",
        "test_clock.py::test_follows_over_many_wraps_read_at_random_gaps",
    ),
    Bug(
        "the tubing's volume is that of another pump",
        "boards/virtual/plant.py",
        "TUBING_PL = 140_000_000",
        "TUBING_PL = 199_000_000",
        "test_plant.py::test_dead_volume_of_tubing_and_catheter",
    ),
    Bug(
        "the simulated flash sets bits without an erase",
        "boards/virtual/nor_flash.py",
        '        if int.from_bytes(self._page, "little") & bits != bits:\n',
        "        if False:\n",
        "test_nor_flash.py::test_bits_only_fall",
    ),
    Bug(
        "flex follows a clock set back at once, and runs the hour again",
        "firmware/pump/basal.py",
        "        if -_MOST_SLEW_US <= moved <= _MOST_SLEW_US:\n",
        "        if not moved:\n",
        "test_therapy.py::test_flex_with_the_clock_set_by_an_hour_repeats_and_skips_nothing",
    ),
    Bug(
        "the lockout counts from the end of the last bolus but one",
        "firmware/pump/patient.py",
        'grants[-1] + p["lockout_s"] * 1_000_000',
        'grants[0] + p["lockout_s"] * 1_000_000',
        "test_therapy.py::test_patient_bolus_keeps_lockout_and_maximum_also_over_a_restart",
    ),
    Bug(
        "the patient's boluses are forgotten over a restart",
        "firmware/pump/limits.py",
        "                    self.grants.append(-60_000_000 * age)\n",
        "                    pass\n",
        "test_therapy.py::test_patient_bolus_keeps_lockout_and_maximum_also_over_a_restart",
    ),
    Bug(
        "the hour is counted from a mark too late",
        "firmware/pump/limits.py",
        "self._top = min(self._hour[6] +",
        "self._top = min(self._hour[2] +",
        "test_transitions.py::test_a_limit_holds_without_a_plan",
    ),
    Bug(
        "the bridge bolus begins again after each reset",
        "firmware/pump/delivery.py",
        "        steps = self._store.bridge[2] - self._ledger.moved()\n        return",
        "        steps = self._store.bridge[2] - self._ledger.refill_steps()\n        return",
        "test_therapy.py::test_bridge_goes_on_after_resets_and_changes_over",
    ),
    Bug(
        "steps of the bridge bolus are reserved ahead as any others",
        "firmware/pump/delivery.py",
        "            motion.sparing = True\n",
        "",
        "test_therapy.py::test_bridge_goes_on_after_resets_and_changes_over",
    ),
    Bug(
        "the soft limit of a bolus is not looked at",
        "firmware/pump/programming.py",
        '    if soft and (p["bolus_nl"] > soft or p["patient_nl"] > soft):\n',
        "    if False:\n",
        "test_therapy.py::test_soft_limits_must_be_agreed_to",
    ),
    Bug(
        "a change of 24 times needs no typed total",
        "firmware/pump/programming.py",
        "        above = above or change * 5 > was",
        "        above = above or change * 5 > 240 * was",
        "test_therapy.py::test_a_dose_that_changes_much_must_be_typed",
    ),
    Bug(
        "a prescription takes what is staged when it is confirmed",
        "firmware/pump/prescribing.py",
        '    parts = request.get("parts")\n',
        "    parts = None\n",
        "test_therapy.py::test_what_is_staged_is_bound_to_its_token",
    ),
)


def run_tests(tree: Path, test_file: str, functions: list[str]) -> dict[str, tuple[bool, str]]:
    """(passed, its trace) of each of the ``functions`` of a firmware test file on the firmware
    in ``tree``; those that the VM did not tell of are missing."""
    tests = ROOT / "firmware" / "tests"
    folders = (tree / "firmware", tests, tree / "boards" / "virtual", ".frozen")
    work = tree / "work"
    work.mkdir()
    done = subprocess.run(
        [
            find_vm(),
            "-X",
            f"heapsize={HEAP}",
            str(tests / "run_in_vm.py"),
            str(tests / test_file),
            *functions,
        ],
        cwd=work,
        env=dict(os.environ, MICROPYPATH=":".join(map(str, folders))),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=False,
    )
    told: dict[str, tuple[bool, str]] = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith('{"test": '):
            result = json.loads(line)
            told[result["test"]] = (result["ok"], result["trace"])
    return told


def copied(tree: Path) -> Path:
    """A copy of the firmware and the virtual board in ``tree``."""
    ignore = shutil.ignore_patterns("tests", "__pycache__")
    for folder in ("firmware", "boards/virtual"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignore)
    return tree


@pytest.mark.long
def test_unchanged_firmware_passes_them_all(tmp_path: Path) -> None:
    files: dict[str, list[str]] = {}
    for bug in BUGS:
        test_file, _, function = bug.test.partition("::")
        files.setdefault(test_file, []).append(function)
    for test_file, functions in files.items():
        wanted = sorted(set(functions))
        told = run_tests(copied(tmp_path / test_file), test_file, wanted)
        assert {name: told.get(name) for name in wanted} == dict.fromkeys(wanted, (True, ""))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "_"))
def test_bug_is_found(bug: Bug, tmp_path: Path) -> None:
    copied(tmp_path)
    path = tmp_path / bug.source
    source = path.read_text(encoding="utf-8")
    assert source.count(bug.right) == 1, f"{bug.source} no longer holds once: {bug.right}"
    path.write_text(source.replace(bug.right, bug.wrong), encoding="utf-8")
    test_file, _, function = bug.test.partition("::")
    told = run_tests(tmp_path, test_file, [function])
    assert function in told, f"the VM did not tell of {bug.test}: {told}"
    passed, trace = told[function]
    assert not passed, f"{bug.test} passes although {bug.name}"
    assert "ImportError" not in trace
    assert "SyntaxError" not in trace
