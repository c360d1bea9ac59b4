"""The house's rules that a program can check: who may import what, and what stands at the top."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CHIP_MODULES = frozenset({"machine", "rp2", "esp32", "pyb"})
# Pure logic by ARCHITECTURE's rule. What both sides import must not need MicroPython either.
FORBIDDEN = {
    "firmware/pump": CHIP_MODULES,
    "firmware/pump_wire": CHIP_MODULES | {"micropython"},
}
FOLDERS = frozenset({"firmware", "host_tools", "hil_tests", "boards", ".ci"})
# Not ours to keep out: what git, make setup and the tools put there, all in .gitignore.
PASSING = frozenset({".git", ".venv", ".hypothesis", "build", "dist"})


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, top-level module) of every import in a file, wherever it stands."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "__import__"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            names = [str(node.args[0].value)]
        found += [(node.lineno, name.partition(".")[0]) for name in names]
    return found


def forbidden_imports(folder: Path, forbidden: frozenset[str]) -> list[str]:
    """One line for every forbidden import below ``folder``."""
    return [
        f"{path.relative_to(folder)}:{line} imports {name}"
        for path in sorted(folder.rglob("*.py"))
        for line, name in imports(path)
        if name in forbidden
    ]


def strange_folders(root: Path) -> list[str]:
    """Top-level folders that the house does not have. In a git work tree: those git would keep."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        kept = [name for name in listed.stdout.split("\0") if name and (root / name).exists()]
        names = {Path(name).parts[0] for name in kept if "/" in name}
    else:
        names = {path.name for path in root.iterdir() if path.is_dir()}
        names = {name for name in names if not name.endswith((".egg-info", "_cache"))} - PASSING
    return sorted(names - FOLDERS)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_pure_firmware_imports_no_chip(folder: str) -> None:
    assert any((ROOT / folder).glob("*.py"))
    assert forbidden_imports(ROOT / folder, FORBIDDEN[folder]) == []


def test_top_level_folders_are_the_house() -> None:
    assert strange_folders(ROOT) == []
    assert all((ROOT / folder).is_dir() for folder in FOLDERS)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import machine", "machine"),
        ("import gc, rp2", "rp2"),
        ("import machine as hardware", "machine"),
        ("from machine import Pin", "machine"),
        ("from esp32.nvs import NVS", "esp32"),
        ("def f():\n    import pyb", "pyb"),
        ("try:\n    import machine\nexcept ImportError:\n    pass", "machine"),
        ('hardware = __import__("machine")', "machine"),
    ],
)
def test_forbidden_import_is_found(tmp_path: Path, line: str, name: str) -> None:
    (tmp_path / "clean.py").write_text("import gc\nfrom struct import pack\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "motion.py").write_text(line + "\n")
    found = forbidden_imports(tmp_path, CHIP_MODULES)
    assert len(found) == 1
    assert found[0].startswith("inner/motion.py:")
    assert found[0].endswith(f" imports {name}")


def test_names_that_only_look_forbidden_pass(tmp_path: Path) -> None:
    text = "import machinery\nfrom pump import machine_state\nfrom . import machine\n"
    (tmp_path / "a.py").write_text(text + "# import rp2\n")
    assert forbidden_imports(tmp_path, CHIP_MODULES) == []


def test_strange_folder_is_found_without_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("firmware", ".venv", ".pytest_cache", "cisterna.egg-info", "helpers"):
        (tmp_path / name).mkdir()
    assert strange_folders(tmp_path) == ["helpers"]


def test_strange_folder_is_found_with_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("/out/\n")
    for name in ("firmware", "out", "helpers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    assert strange_folders(tmp_path) == ["helpers"]


def signatures(path: Path) -> dict[str, list[str]]:
    """Parameter names of every public function, and of every class's __init__, in a file."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found[node.name] = [argument.arg for argument in node.args.args]
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                    found[node.name] = [argument.arg for argument in inner.args.args]
    return found


def test_type_stubs_say_what_the_code_says() -> None:
    stubs = sorted((ROOT / "firmware" / "pump_wire").glob("*.pyi"))
    assert stubs
    for stub in stubs:
        code = stub.with_suffix(".py")
        assert signatures(stub) == signatures(code), stub.name


def test_a_folder_called_cisterna_does_not_hide_the_package(tmp_path: Path) -> None:
    """As when a script lies beside the checkout, which is itself called cisterna."""
    (tmp_path / "cisterna").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "from cisterna import Therapy; print(Therapy.__name__)"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "Therapy", done.stderr
