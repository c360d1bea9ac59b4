"""Every board: what goes on it compiles for its chip, and its construction calls only what the
chip's MicroPython has and leaves the outputs safe. A new folder in boards/ is covered by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from cisterna import board_types
from cisterna.boards import board_data, board_names
from cisterna.firmware_files import board_data_module, firmware_files, source_files
from host_tools.tests.stub_fake import CORRECTIONS, Call, Fake
from pump_wire import messages

BOARDS = board_types.boards_with_stubs()
_ARCHITECTURES = {"armv6m": 4, "armv7emsp": 7, "xtensawin": 10}  # MicroPython py/persistentcode.h
_UNIQUE_ID = {"rp2": bytes(range(8)), "esp32": bytes(range(6)), "pyboard": bytes(range(12))}


def fake_of(board: str, **changed: Any) -> Fake:
    """The board's chip, with the board's own firmware to import. ``changed``: more ``returns``."""
    port = board_data(board)["micropython"]["port"]
    returns = {
        "machine.unique_id": _UNIQUE_ID[port],
        "machine.ADC.read_u16": 32_768,
        "machine.ADC.read_uv": 1_200_000,
        "pyb.Timer.source_freq": 84_000_000,
        "time.ticks_diff": lambda a, b: a - b,
        "time.ticks_add": lambda a, b: a + b,
        "uctypes.addressof": 0x2000_0000,
        **changed,
    }
    own = {
        name[:-3].replace("/", "."): path.read_text(encoding="utf-8")
        for name, path in source_files(board).items()
    }
    own["board_data"] = board_data_module(board_data(board)).decode()
    own = {name.removesuffix(".__init__"): text for name, text in own.items()}
    return Fake(board_types.stubs_folder(board), port, returns, own=own)


def pins(fake: Fake) -> dict[Any, dict[str, Any]]:
    """What each pin was set to last: mode, pull, value, as constructed, called and initialised."""
    found: dict[int, dict[str, Any]] = {}
    by_id: dict[Any, dict[str, Any]] = {}
    for call in fake.calls:
        if call.name == "machine.Pin":
            state = by_id.setdefault(call.args[0], {"value": None})
            found[id(call.on)] = state
            names = ("id", "mode", "pull")
            state |= dict(zip(names, call.args, strict=False)) | call.kwargs
            state["levels"] = [*state.get("levels", ()), call.kwargs.get("value")]
        elif call.name in ("machine.Pin.__call__", "machine.Pin.value") and call.args:
            found[id(call.on)]["value"] = call.args[0]
            found[id(call.on)]["levels"].append(call.args[0])
        elif call.name == "machine.Pin.init":
            found[id(call.on)] |= dict(zip(("mode", "pull"), call.args, strict=False))
            found[id(call.on)] |= call.kwargs
    return by_id


@pytest.fixture(params=BOARDS)
def name(request: pytest.FixtureRequest) -> str:
    if not board_types.stubs_folder(request.param).is_dir():
        pytest.fail(f"no stubs for {request.param}: run make setup")
    return request.param


def test_only_the_virtual_board_has_no_stubs() -> None:
    assert set(board_names()) - set(BOARDS) == {"virtual"}


def test_what_goes_on_it_compiles_for_its_chip(name: str) -> None:
    arch = _ARCHITECTURES[board_data(name)["micropython"]["arch"]]
    native = 0
    for path, data in firmware_files(name).items():
        if path.endswith(".mpy"):
            assert data[:2] == b"M\x06", path
            if data[2] >> 2:  # holds machine code
                assert data[2] >> 2 == arch, path
                native += 1
    assert native >= (1 if "stepper_pio" in board_data(name)["firmware"]["drivers"] else 0)


def covered(source: str, table: str, key: str) -> bool:
    """Whether ``source``, a key of the table, tells where ``key`` comes from: it is the key's own
    (``gap_us_source``), that of what the key begins with (``gap_source``), or the whole table's
    (``pins_source`` in [pins], or ``source``)."""
    stem = source.removesuffix("_source")
    return source == "source" or stem in (key, table) or key.startswith(f"{stem}_")


def unclear_sources(data: dict[str, Any], table: str = "") -> list[str]:
    """Dotted names of the keys that have no source or more than one, and of sources of nothing."""
    unclear = [
        name
        for key, value in data.items()
        if isinstance(value, dict) and key != "firmware"
        for name in unclear_sources(cast("dict[str, Any]", value), key)
    ]
    plain = [key for key, value in data.items() if not isinstance(value, dict)]
    sources = {key for key in plain if key == "source" or key.endswith("_source")}
    keys = [key for key in plain if key not in sources and (table, key) != ("", "name")]
    used: set[str] = set()
    for key in keys:
        found = {source for source in sources if covered(source, table, key)}
        used |= found
        if len(found) != 1 or not all(str(data[source]).strip() for source in found):
            unclear.append(f"{table}.{key}")
    return unclear + [f"{table}.{source}" for source in sorted(sources - used)]


@pytest.mark.parametrize("board", board_names())
def test_every_number_has_a_source(board: str) -> None:
    assert unclear_sources(board_data(board)) == []


@pytest.mark.parametrize(
    ("table", "unclear"),
    [
        ({"gap_us": 5}, ["t.gap_us"]),
        ({"gap_us": 5, "gap_source": " "}, ["t.gap_us"]),
        ({"gap_us": 5, "pulse_us": 3, "gap_source": "x"}, ["t.pulse_us"]),
        ({"num": 2, "den": 1, "divider_source": "x"}, ["t.num", "t.den", "t.divider_source"]),
        ({"gap_us": 5, "gap_source": "x", "t_source": "y"}, ["t.gap_us"]),
        ({"steps": 5, "step_source": "x"}, ["t.steps", "t.step_source"]),
        ({"ids": [[1, 2]], "port": "x"}, ["t.ids", "t.port"]),
        ({"gap_us": 5, "gap_source": "x", "gap_ms": 5}, []),
        ({"gap_us": 5, "pulse_us": 3, "t_source": "x"}, []),
        ({"gap_us": 5, "pulse_us": 3, "source": "x"}, []),
    ],
)
def test_an_unclear_source_is_found(table: dict[str, Any], unclear: list[str]) -> None:
    assert unclear_sources({"name": "a", "firmware": {"drivers": []}, "t": table}) == unclear


def test_boot_switches_the_driver_chip_off_first(name: str) -> None:
    data = board_data(name)
    fake = fake_of(name)
    fake.run(source_files(name)["boot.py"].read_text(encoding="utf-8"), "boot")
    first = next(call for call in fake.calls if call.name.startswith(("machine", "pyb")))
    assert (first.name, first.args[0]) == ("machine.Pin", data["pins"]["enable"])
    state = pins(fake)
    assert state[data["pins"]["enable"]]["value"] == 1 - data["stepper"]["enable_active"]
    assert state[data["pins"]["step"]]["value"] == 0


def test_construction_is_safe_and_as_board_toml_says(name: str) -> None:
    data = board_data(name)
    fake = fake_of(name)
    board = fake.module("board").build()
    assert board.name == name
    assert len(board.unique_id) == 8
    assert len(board.entropy(16)) == 16
    assert board.ticks_period == 1 << 30
    assert board.step_pl == data["plant"]["step_pl"]
    state = pins(fake)
    inactive = 1 - data["stepper"]["enable_active"]
    assert set(state[data["pins"]["enable"]]["levels"]) == {inactive}
    assert set(state[data["pins"]["step"]]["levels"]) == {0}
    assert state[data["pins"]["dir"]]["value"] == data["stepper"]["forward"]
    used = {
        pin
        for key, pin in data["pins"].items()
        if key not in ("led", "coils") and not key.endswith("_source")
    }
    assert set(state) == used
    armed = [call.name for call in fake.calls if call.name == "machine.WDT"]
    assert armed == []  # only start() arms it
    for attribute in ("stepper", "port"):
        assert getattr(board, attribute) is not None
    assert board.reset_cause in range(len(messages.RESET_CAUSES))


@pytest.mark.parametrize(
    "name", [each for each in BOARDS if "coils" in board_data(each)["pins"]], indirect=True
)
def test_coils_are_without_current(name: str) -> None:
    data = board_data(name)
    fake = fake_of(name)
    changed = {**data, "stepper": {**data["stepper"], "kind": "four_phase"}}
    fake.own["board_data"] = board_data_module(changed).decode()
    fake.module("board").build()
    state = pins(fake)
    assert state[data["pins"]["coils"]]["value"] == 0
    assert state[data["pins"]["step"]]["value"] == 0
    (machine,) = [
        call
        for call in fake.calls
        if call.name == "rp2.StateMachine" and call.args[0] == data["stepper"]["phases"]
    ]
    assert machine.kwargs["set_base"] is next(
        call.on
        for call in fake.calls
        if call.name == "machine.Pin" and call.args[0] == data["pins"]["coils"]
    )


def test_it_tells_why_it_was_reset(name: str) -> None:
    port = board_data(name)["micropython"]["port"]
    if port == "rp2":
        watchdog, chip = (
            (0x4005_8008, 0x4006_4008) if name == "rpi_pico" else (0x400D_8008, 0x4010_002C)
        )
        power, run = (8, 16) if name == "rpi_pico" else (16, 18)
        cases: list[tuple[Any, str]] = [
            ({}, "unknown"),
            ({chip: 1 << power}, "power on"),
            ({chip: 1 << run}, "reset pin"),
            ({chip: 1 << power, watchdog: 1}, "watchdog"),
            ({chip: 1 << power, watchdog: 2}, "software"),
        ]
    else:
        machine = fake_of(name).module("machine")
        cases = [
            (machine.PWRON_RESET, "power on"),
            (machine.WDT_RESET, "watchdog"),
            (machine.SOFT_RESET, "software"),
            (machine.HARD_RESET, "software" if port == "esp32" else "reset pin"),
            (99, "unknown"),
        ]
    for cause, expected in cases:
        fake = fake_of(name)
        if isinstance(cause, dict):
            fake.memory.update(cause)
        else:
            fake.returns["machine.reset_cause"] = cause
        board = fake.module("board").build()
        assert messages.RESET_CAUSES[board.reset_cause] == expected, cause


def test_its_devices_call_only_what_there_is(name: str) -> None:
    fake = fake_of(name)
    board = fake.module("board").build()
    for device, calls in (
        ("sounder", (("play", 2000), ("off",))),
        ("battery", (("read_mv",),)),
        ("watchdog", (("start",), ("feed",))),
        ("service_button", (("pressed",),)),
        ("patient_button", (("pressed",),)),
        ("rotor", (("count",),)),
    ):
        thing = getattr(board, device, None)
        if thing is not None:
            for method, *arguments in calls:
                getattr(thing, method)(*arguments)
    if getattr(board, "watchdog", None) is not None:
        (armed,) = [call for call in fake.calls if call.name == "machine.WDT"]
        assert armed.kwargs == {"timeout": board_data(name)["watchdog"]["timeout_ms"]}


@pytest.mark.parametrize("name", [each for each in BOARDS if each != "rpi_pico"], indirect=True)
def test_battery_is_read_through_its_divider(name: str) -> None:
    board = fake_of(name).module("board").build()
    assert board.battery.read_mv() == pytest.approx(
        2_400 if name == "esp32_generic" else 3_300, rel=0.001
    )


# -- the fake itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ("value=0)", "valeu=0)", TypeError),
        ("Pin.OUT", "Pin.OUTPUT", AttributeError),
        ("from machine import", "from machines import", ImportError),
        ("machine.unique_id()", "machine.unique_id(8)", TypeError),
        ("import os\n", "import os\nfrom machine import Pins\n", ImportError),
        ("os.urandom", "os.urandomly", AttributeError),
    ],
)
def test_a_call_the_chip_does_not_know_fails(
    name: str, right: str, wrong: str, error: type[Exception]
) -> None:
    fake = fake_of(name)
    source = fake.own["board"]
    assert right in source
    fake.own["board"] = source.replace(right, wrong, 1)
    with pytest.raises(error):
        fake.module("board").build()


def test_modules_of_other_chips_are_not_there() -> None:
    for board, foreign in (("rpi_pico", "pyb"), ("esp32_generic", "rp2"), ("pybv11", "esp32")):
        with pytest.raises(ImportError, match=foreign):
            fake_of(board).run(f"import {foreign}", "wrong")


def test_overloads_keywords_and_what_stubs_leave_open() -> None:
    fake = fake_of("esp32_generic")
    machine: Any = fake.module("machine")
    pin = machine.Pin(33, machine.Pin.IN)
    pin(1)
    assert pin() == 0
    with pytest.raises(TypeError, match="hard"):
        pin.irq(print, machine.Pin.IRQ_RISING, hard=True)
    with pytest.raises(TypeError):
        machine.Counter(0, pin, filter=3)
    with pytest.raises(TypeError):
        pin(1, 2)
    with pytest.raises(TypeError, match="nobody_knows"):
        machine.dht_readinto(1, 2)
    with pytest.raises(AttributeError):
        pin.colour = 3
    assert fake.calls[0] == Call("machine.Pin", pin, (33, machine.Pin.IN), {})


def test_corrections_are_of_names_that_exist_or_are_missing_for_good_reason() -> None:
    for port, entry in CORRECTIONS:
        module, kind, *_ = entry.split(".")
        for board in BOARDS:
            if board_data(board)["micropython"]["port"] == (port or "rp2"):
                assert hasattr(fake_of(board).module(module), kind), entry


def test_type_check_takes_the_boards_own_files_and_stubs() -> None:
    config = board_types.config("pybv11")
    assert all("typings/pybv11" in str(config[key]) for key in ("typeshedPath", "stubPath"))
    checked = {path.name for path in board_types.files_to_check("pybv11")}
    assert {"timer_pyb.py", "board.py", "boot.py", "app.py"} <= checked
    assert "stepper_pio.py" not in checked
    everywhere = {path for name in BOARDS for path in board_types.files_to_check(name)}
    drivers = (board_types.project_root() / "firmware" / "drivers").glob("*.py")
    assert set(drivers) <= everywhere


def test_type_check_finds_what_the_port_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from pyb import Timer\n\nTimer(2).prescale(3)\n")
    monkeypatch.setattr(board_types, "files_to_check", lambda _: [wrong])
    assert board_types.main(["pybv11", "esp32_generic"]) == 1
    said = capfd.readouterr().out
    assert said.count('"prescale"') >= 1
    assert 'Import "pyb" could not be resolved' in said
