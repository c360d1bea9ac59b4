"""The threat table of ``PROTOCOL.md``: what somebody on the line may try, where it was done to a
real device, what stops it here, and the test that shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Threat:
    """``case``: published, "" where none is known to us. ``test``: file::function, of what stops
    it, or of that nothing does; "" where there is none."""

    attack: str
    case: str
    stopped_by: str
    test: str


_SESSIONS = "firmware/tests/test_sessions.py::"
_LIMITS = "firmware/tests/test_known_limits.py::"

THREATS = (
    Threat(
        "listen and read the therapy",
        "Animas OneTouch Ping, 2016 (CVE-2016-5084)",
        "all but `hello` and the handshake is encrypted; lengths tell much of what is asked",
        _SESSIONS + "test_before_authentication_only_hello",
    ),
    Threat(
        "send a command with no key",
        "Medtronic Conexus telemetry, 2019 (CVE-2019-6538); MiniMed 508 and Paradigm, recalled in "
        "2019 (CVE-2019-10964)",
        "an open packet is refused but for four messages; roles, denied by default",
        _SESSIONS + "test_every_message_in_every_role",
    ),
    Threat(
        "replay a recorded command, at once or in the next session",
        "MiniMed remote controllers, 2018 (CVE-2018-14781); Animas, 2016 (CVE-2016-5086)",
        "counters, each taken once; a key of both sides' nonces for every session",
        _SESSIONS + "test_counters_that_are_not_the_next_are_refused",
    ),
    Threat(
        "replay it after the pump restarted",
        "",
        "the pump's nonce is random, and nothing of a session outlives a restart",
        _SESSIONS + "test_a_recorded_session_means_nothing_after_a_restart",
    ),
    Threat(
        "change a command on its way, or cut and splice several",
        "",
        "a tag over session, direction, counter and message",
        _SESSIONS + "test_every_flipped_bit_of_a_request_is_refused",
    ),
    Threat(
        "send the pump its own packets back",
        "",
        "the direction is in the nonce",
        _SESSIONS + "test_packets_of_another_direction_are_refused",
    ),
    Threat(
        "pair one's own programmer unseen",
        "Animas, 2016 (CVE-2016-5085)",
        "keys only while the service button is held, from beginning to end; who is on the line "
        "just then can pair, too",
        _SESSIONS + "test_keys_are_given_only_while_the_button_is_held",
    ),
    Threat(
        "listen to a pairing",
        "Animas, 2016 (CVE-2016-5085)",
        "X25519; the key is made on the pump and never in clear",
        _SESSIONS + "test_no_message_tells_a_key",
    ),
    Threat(
        "be in the middle of a pairing, changing octets",
        "",
        "nothing: the role's key is theirs, nobody notices, and they can play the pump, too; hold "
        "the button with the cable in sight",
        "",
    ),
    Threat(
        "pair any role, or revoke a key, while the button is held for another pairing",
        "",
        "nothing: the button is held for whoever asks; the log tells each role",
        _LIMITS + "test_while_the_button_is_held_any_role_is_paired_and_revoked",
    ),
    Threat(
        "have somebody pair anew on a tapped line, by forging that a key is gone",
        "",
        "such answers are told as what they may be: look at the line before you pair",
        "host_tools/tests/test_pairing.py::"
        "test_nobody_is_sent_to_pair_anew_by_an_answer_that_nothing_proves",
    ),
    Threat(
        "forge the answer to `revoke_key`, so that a stolen key stays good",
        "",
        "the pump is asked again in a session of another role; without one it is told as unknown",
        "host_tools/tests/test_pairing.py::test_a_forged_answer_to_revoke_is_not_believed",
    ),
    Threat(
        "guess a tag, or a key",
        "St. Jude Merlin, 2017 (CVE-2017-12712)",
        "64 bits under a key that lives for one session; back-off, logged",
        _SESSIONS + "test_failed_authentications_back_off_and_are_logged",
    ),
    Threat(
        "keep others out by failing on purpose",
        "",
        "the back-off is short, and a session that is open is not held up",
        _SESSIONS + "test_a_flood_of_failures_locks_nobody_out",
    ),
    Threat(
        "keep others out by failing in each handshake of theirs",
        "",
        "a handshake goes on whatever wrong tags fall into it",
        _SESSIONS + "test_who_waits_takes_no_harm_from_failures",
    ),
    Threat(
        "talk without end, to stop delivery or empty the battery",
        "an implantable defibrillator, 2008 (Halperin et al.); St. Jude Merlin, 2017 "
        "(CVE-2017-12714)",
        "bounded work a frame, and motion goes first; the battery is not protected",
        "firmware/tests/test_stopping.py::test_a_flooded_link_lets_other_tasks_run",
    ),
    Threat(
        "use the patient's key for more than the patient may",
        "",
        "roles are the key's, and `prepare` is judged by the command inside",
        _SESSIONS + "test_every_message_in_every_role",
    ),
    Threat(
        "take the clinician's session over with the patient's key",
        "",
        "a session gives way at once only to its own name in a role that may no less",
        _SESSIONS + "test_nobody_takes_over_a_session_of_a_role_that_may_more",
    ),
    Threat(
        "take the clinician's session over with the service's key",
        "",
        "nothing: with the clinician's name it is the service's at once, though service may not "
        "program, bolus or stop",
        _LIMITS + "test_the_services_key_takes_a_clinicians_session_by_its_name",
    ),
    Threat(
        "end a session with a handshake that began before it, with any key",
        "",
        "who may have the pump is looked at again when the session proves itself",
        _SESSIONS + "test_who_waited_does_not_end_a_session_that_came_to_life_again",
    ),
    Threat(
        "keep the pump to oneself with the patient's key, so that nobody stops it",
        "",
        "who asks often enough keeps it, but a stop takes it over under the patient's own name",
        "host_tools/tests/test_outcomes.py::test_a_stop_waits_for_no_patient",
    ),
    Threat(
        "guess tags inside a session that is open",
        "",
        "64 bits; counted and logged, and the session goes on",
        _SESSIONS + "test_forging_in_an_open_session_is_logged_and_harms_nobody",
    ),
    Threat(
        "push the log out, or wear the flash, by asking for what is refused",
        "",
        "of refusals 24 at once are taken down, then one in ten minutes; a patient's are counted",
        "firmware/tests/test_commands.py::"
        "test_what_a_patient_may_ask_without_end_does_not_push_the_log_out",
    ),
    Threat(
        "push the log out with wrong tags, without a key",
        "",
        "nothing: two records in ten minutes, 11 days for all of it; each time an alarm sounds",
        _LIMITS + "test_wrong_tags_without_a_key_make_two_records_in_ten_minutes",
    ),
    Threat(
        "use a token twice, late, in another session or for something else",
        "",
        "one token at a time, for what was prepared last, for 30 s, in its session",
        _SESSIONS + "test_a_token_is_good_in_its_session_only",
    ),
    Threat(
        "swallow or forge an answer, so that a dose is given again",
        "Animas, 2016 (CVE-2016-5686)",
        "kept before it is sent, settled by its token before anything else is prepared",
        "host_tools/tests/test_pairing.py::"
        "test_an_unknown_outcome_is_kept_and_settled_by_the_next_programmer",
    ),
    Threat(
        "forge a hello, so that a programmer takes a dose for not given",
        "",
        "what became of a command is decided by what the pump says inside a session alone",
        "host_tools/tests/test_pairing.py::test_a_forged_hello_does_not_make_a_restart_a_no",
    ),
    Threat(
        "forge the rest of hello: board, firmware, count of starts, cause of the last one",
        "",
        "nothing: only versions and serial go into a session's key; the screens say unproved",
        "",
    ),
    Threat(
        "have a dose repeated by whoever repeats a command that failed",
        "",
        "a command that finds an earlier one unsettled settles it, says so, and ends there",
        "host_tools/tests/test_pairing.py::test_a_command_that_settles_an_earlier_one_ends_there",
    ),
    Threat(
        "foretell random numbers",
        "",
        "nothing on a chip whose own repeat; a virtual pump without a seed draws the machine's",
        "host_tools/tests/test_sim.py::test_without_a_seed_nobody_can_foretell_keys_and_tokens",
    ),
    Threat(
        "walk up to a session that somebody left open",
        "",
        "it ends after 3 minutes of silence, and is of use only to who has its key",
        _SESSIONS + "test_a_session_ends_after_three_minutes_of_silence",
    ),
    Threat(
        "change the therapy unnoticed",
        "",
        "every change sounds and is in the log with its role",
        _SESSIONS + "test_every_change_is_announced_and_logged_with_its_role",
    ),
    Threat(
        "a console on the port",
        "Hospira LifeCare PCA, 2015 (CVE-2015-3459)",
        "the sealed profile has none; the button at power on opens it until the next start",
        "host_tools/tests/test_profiles.py::test_board_data_without_a_profile_is_sealed",
    ),
    Threat(
        "take the keys from the programmer's disk",
        "Medtronic N'Vision, 2018 (CVE-2018-8849)",
        "readable by their owner only, or not used; who has that account has the keys: revoke",
        "host_tools/tests/test_pairing.py::test_keys_are_readable_by_their_owner_only",
    ),
    Threat(
        "take the keys from the pump's flash",
        "",
        "nothing: who has the board in hand reads its flash (drivers/README.md)",
        "",
    ),
)
