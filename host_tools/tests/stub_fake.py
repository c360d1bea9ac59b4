"""A recording fake of a chip's modules, made from that port's MicroPython stubs.

A fake module has exactly the names that its .pyi has; its classes and functions take exactly the
calls that one of the overloads there takes, and write each down in ``Fake.calls``. Anything else
is the AttributeError, ImportError or TypeError it would be on the chip. What a stub leaves open
(``*args, **kwargs``) is refused too, until ``CORRECTIONS`` says what it takes.

Code runs under CPython: the fake shows that it calls what there is, with the arguments that there
are, and what state that leaves pins in; not what the chip does.
"""

from __future__ import annotations
import __future__

import array
import ast
import builtins
import hashlib
import inspect
import io
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# Where the stubs (1.29.0) are wrong or open: (name, what the port's source takes). Read from the
# sources of MicroPython 1.29 named beside each. "" in the key: all ports.
CORRECTIONS: dict[tuple[str, str], str] = {
    # extmod/machine_timer.c, ports/{rp2,esp32}/machine_timer.c; no overload has period and tick_hz
    ("", "machine.Timer.init"): "(*, mode=1, callback=None, period=0, tick_hz=1000, freq=None,"
    " hard=False)",
    # ports/esp32/machine_pin.c: machine_pin_irq
    ("esp32", "machine.Pin.irq"): "(handler=None, trigger=3, wake=None)",
    # ports/esp32/machine_timer.c: machine_timer_init_helper refuses hard=True
    ("esp32", "machine.Timer.init"): "(*, mode=1, callback=None, period=0, tick_hz=1000,"
    " freq=None)",
    # ports/esp32/modules/machine.py
    ("esp32", "machine.Counter"): "(unit_id, src, edge=1, direction=1, *, filter_ns=0)",
    ("esp32", "machine.Counter.value"): "(value=None)",
    # ports/stm32/timer.c: pyb_timer_channel_locals_dict_table
    ("pyboard", "pyb.timerchannel.callback"): "(fun, /)",
}

_VALUES = {"int": 0, "bool": False, "float": 0.0, "str": "", "bytes": b"", "None": None}
_NOT_THE_CHIPS = {"array": array, "hashlib": hashlib}  # CPython's will do


class Call(NamedTuple):
    """One call: ``name`` as module.Class.method or module.Class, ``on`` the object it made or was
    called on."""

    name: str
    on: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Memory:
    """mem8, mem16, mem32."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def __getitem__(self, address: int) -> int:
        return self._fake.memory.get(address, 0)


class Fake:
    """``stubs``: folder of a port's stubs; ``port``: its sys.platform. ``returns``: name -> what a
    call of it returns, or a callable that makes it; ``memory``: address -> word."""

    def __init__(
        self,
        stubs: Path,
        port: str,
        returns: dict[str, Any] | None = None,
        memory: dict[int, int] | None = None,
        own: dict[str, str] | None = None,
    ) -> None:
        self.stubs = stubs
        self.port = port
        self.calls: list[Call] = []
        self.memory = memory or {}
        self.own = own or {}
        self._modules: dict[str, types.ModuleType] = {}
        self.returns: dict[str, Any] = {
            "micropython.const": lambda value: value,
            "micropython.viper": lambda function: function,
            "micropython.native": lambda function: function,
            "rp2.asm_pio": lambda **_: lambda function: function,
            "os.urandom": bytes,
            "select.poll.ipoll": lambda *_: iter(()),
            **(returns or {}),
        }

    def run(self, source: str, name: str) -> types.ModuleType:
        """Execute a module's source with the fake's imports; ``own`` has the project's modules."""
        module = types.ModuleType(name)
        names = {**vars(builtins), "__import__": self._import}
        module.__dict__["__builtins__"] = names
        # Annotations are viper's, and names of nothing that CPython has.
        flags = __future__.annotations.compiler_flag
        exec(compile(source, f"<{name}>", "exec", flags), module.__dict__)  # noqa: S102
        return module

    def _import(
        self, name: str, _globals: Any = None, _locals: Any = None, fromlist: Any = (), _: int = 0
    ) -> Any:
        module = self.module(name)
        for item in fromlist or ():
            if not hasattr(module, item):
                if f"{name}.{item}" in self.own or name == "asyncio":
                    setattr(module, item, self.module(f"{name}.{item}"))
                else:
                    raise ImportError(f"cannot import name {item!r} from {name!r} ({self.port})")
        return module if fromlist else self.module(name.partition(".")[0])

    def module(self, name: str) -> types.ModuleType:
        """The module ``name``: the project's own from its source, the chip's from its stub."""
        if name not in self._modules:
            if name in self.own:
                self._modules[name] = self.run(self.own[name], name)
            elif name in _NOT_THE_CHIPS:
                self._modules[name] = _NOT_THE_CHIPS[name]
            elif any(each.startswith(name + ".") for each in self.own) or "asyncio" in name:
                self._modules[name] = types.ModuleType(name)
            elif name == "sys":
                self._modules[name] = self._sys()
            else:
                self._modules[name] = self._from_stub(name)
        return self._modules[name]

    def _sys(self) -> types.ModuleType:
        module = types.ModuleType("sys")
        for stream in ("stdin", "stdout"):
            setattr(module, stream, types.SimpleNamespace(buffer=io.BytesIO()))
        return module

    def _from_stub(self, name: str) -> types.ModuleType:
        path = self._stub(name)
        if path is None:
            raise ImportError(f"no module named {name!r} ({self.port})")
        module = _Module(name, self)
        self._fill(module.__dict__, name, path)
        return module

    def _stub(self, name: str) -> Path | None:
        for folder in (self.stubs, self.stubs / "stdlib"):
            for path in (folder / f"{name}.pyi", folder / name / "__init__.pyi"):
                if path.is_file():
                    return path
        return None

    def _fill(self, names: dict[str, Any], module: str, path: Path) -> None:
        """Put what a stub file defines into ``names``."""
        body = _statements(ast.parse(path.read_text(encoding="utf-8")).body)
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.module:
                near = path.parent / f"{node.module.rpartition('.')[2]}.pyi"
                if (node.level or node.module.startswith(module + ".")) and near.is_file():
                    self._fill(names, module, near)
            elif isinstance(node, ast.ClassDef):
                names[node.name] = self._class(node, f"{module}.{node.name}", names)
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                self._value(node, names, module)
        for name, overloads in _functions(body).items():
            names[name] = self._function(f"{module}.{name}", overloads, names)

    def _value(self, node: ast.AnnAssign | ast.Assign, names: dict[str, Any], of: str) -> None:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if not isinstance(target, ast.Name):
            return
        if target.id in ("mem8", "mem16", "mem32"):
            names[target.id] = _Memory(self)
            return
        try:
            names[target.id] = ast.literal_eval(node.value) if node.value else None
        except ValueError:
            names[target.id] = None

    def _class(self, node: ast.ClassDef, name: str, names: dict[str, Any]) -> type:
        body = _statements(node.body)
        members: dict[str, Any] = {}
        for inner in body:
            if isinstance(inner, ast.AnnAssign | ast.Assign):
                self._value(inner, members, name)
        functions = _functions(body)
        made = functions.pop("__init__", functions.pop("__new__", []))
        properties = {each.name for each in body if _is_property(each)}
        for method, overloads in functions.items():
            if method in properties:
                members[method] = None
            else:
                members[method] = self._method(f"{name}.{method}", overloads, names)
        for method in [each for _, each in CORRECTIONS if each.startswith(name + ".")]:
            last = method[len(name) + 1 :]
            if "." not in last and (self.port, method) in CORRECTIONS:
                members.setdefault(last, self._method(method, [], names))
        settable = {each for each in members if not callable(members[each])}
        signatures = self._signatures(name, made, skip=1) if made else [inspect.Signature()]

        def init(this: Any, *args: Any, **kwargs: Any) -> None:
            _bind(name, signatures, args, kwargs)
            self.calls.append(Call(name, this, args, kwargs))

        def set_attribute(this: Any, attribute: str, value: Any) -> None:
            if attribute not in settable:
                raise AttributeError(f"{name} has no attribute {attribute!r}")
            object.__setattr__(this, attribute, value)

        members["__init__"] = init
        members["__setattr__"] = set_attribute
        bases = tuple(names[base.id] for base in node.bases if _known(base, names))
        return type(node.name, bases, members)

    def _signatures(
        self, name: str, overloads: list[ast.FunctionDef], skip: int
    ) -> list[inspect.Signature]:
        corrected = CORRECTIONS.get((self.port, name)) or CORRECTIONS.get(("", name))
        if corrected:
            names: dict[str, Any] = {}
            exec(f"def f{corrected}: pass", names)  # noqa: S102
            return [inspect.signature(names["f"])]
        return [_signature(each, skip) for each in overloads]

    def _result(self, name: str, overload: ast.FunctionDef | None, names: dict[str, Any]) -> Any:
        kind = ast.unparse(overload.returns) if overload and overload.returns else "None"
        made = kind.partition(" ")[0]
        if isinstance(names.get(made), type):
            thing = object.__new__(names[made])
            self.calls.append(Call(f"{name.partition('.')[0]}.{made}", thing, (), {}))
            return thing
        return _VALUES.get(made)

    def _called(
        self, name: str, this: Any, overloads: Any, names: Any, args: Any, kwargs: Any, skip: int
    ) -> Any:
        which = _bind(name, self._signatures(name, overloads, skip), args, kwargs)
        self.calls.append(Call(name, this, args, kwargs))
        if name in self.returns:
            value = self.returns[name]
            return value(*args, **kwargs) if callable(value) else value
        return self._result(name, overloads[which] if which < len(overloads) else None, names)

    def _function(self, name: str, overloads: Any, names: Any) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            return self._called(name, None, overloads, names, args, kwargs, 0)

        return function

    def _method(self, name: str, overloads: Any, names: Any) -> Callable[..., Any]:
        def method(this: Any, *args: Any, **kwargs: Any) -> Any:
            return self._called(name, this, overloads, names, args, kwargs, 1)

        return method


class _Module(types.ModuleType):
    """Raises what MicroPython raises for a name it has not."""

    def __init__(self, name: str, fake: Fake) -> None:
        super().__init__(name)
        self.__dict__["_port"] = fake.port

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"module {self.__name__!r} has no {name!r} ({self._port})")


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """``body`` with what stands in its ifs."""
    found: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.If):
            found += _statements(node.body) + _statements(node.orelse)
        else:
            found.append(node)
    return found


def _functions(body: list[ast.stmt]) -> dict[str, list[ast.FunctionDef]]:
    found: dict[str, list[ast.FunctionDef]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
    return found


def _is_property(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list
    )


def _known(base: ast.expr, names: dict[str, Any]) -> bool:
    return isinstance(base, ast.Name) and isinstance(names.get(base.id), type)


def _signature(function: ast.FunctionDef, skip: int) -> inspect.Signature:
    """Of one overload, without its first ``skip`` parameters (self)."""
    kinds = inspect.Parameter
    given = function.args
    positional = [(each, kinds.POSITIONAL_ONLY) for each in given.posonlyargs]
    positional += [(each, kinds.POSITIONAL_OR_KEYWORD) for each in given.args]
    without_default = len(positional) - len(given.defaults)
    parameters = [
        kinds(each.arg, kind, default=kinds.empty if i < without_default else ...)
        for i, (each, kind) in enumerate(positional)
    ][skip:]
    if given.vararg and not parameters and given.kwarg:
        # "*args, **kwargs": the stub does not say
        return inspect.Signature([kinds("nobody_knows", kinds.KEYWORD_ONLY)])
    if given.vararg:
        parameters.append(kinds(given.vararg.arg, kinds.VAR_POSITIONAL))
    for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        empty = kinds.empty if default is None else ...
        parameters.append(kinds(each.arg, kinds.KEYWORD_ONLY, default=empty))
    if given.kwarg:
        parameters.append(kinds(given.kwarg.arg, kinds.VAR_KEYWORD))
    return inspect.Signature(parameters)


def _bind(
    name: str, signatures: list[inspect.Signature], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> int:
    """Index of the overload that takes the call. Raises TypeError when none does."""
    for index, signature in enumerate(signatures):
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            continue
        return index
    known = " or ".join(map(str, signatures)) or "nothing"
    raise TypeError(f"{name} was called with {args} {kwargs}; it takes {known}")
