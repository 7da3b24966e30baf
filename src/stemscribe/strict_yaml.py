"""Settings out of YAML, strictly: a file becomes a frozen dataclass, or one line says what is wrong with it and where.

    params = parse(Params, read_yaml("params.yaml"), "params.yaml")
    require = requirement("params.yaml")
    require(params.seed >= 0, "seed", "at least 0")

The promise: nothing in the file is run, no key stands twice, none is missing or unknown, and every value is of its kind.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from stemscribe.errors import UsageError

Section = TypeVar("Section")
Requirement = Callable[[bool, str, str], None]  # see `requirement`


def read_yaml(path: str | Path) -> Mapping[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UsageError: if the file is missing, is no YAML, repeats a key or holds no mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {reason}; run this in the project folder") from error
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        raise UsageError(f"{path}{f' line {mark.line + 1}' if mark else ''}: {problem}; mend the YAML") from error
    if not isinstance(content, Mapping):
        raise UsageError(f"{path} holds no parameters; restore it with `git checkout {path}`")
    return content


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a repeated key is an error instead of the last one winning."""


def _unique_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
        if key is not None:  # what is no scalar cannot be a key, and the constructor says so
            seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def parse(kind: type[Section], content: Any, where: str) -> Section:
    """Build the frozen dataclass `kind` from a YAML mapping, strictly.

    Args:
        kind: a dataclass whose fields are numbers, texts, flags, tuples, mappings or such dataclasses.
        content: what YAML gave.
        where: how messages name the place.
    Raises:
        UsageError: naming the first key that is missing, unknown or of the wrong kind.
    """
    if not isinstance(content, Mapping):
        raise UsageError(f"{where}: expected a block of settings, found {content!r}")
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in content:
        if key not in names:
            raise UsageError(f"{where}: unknown key {key!r}; {_nearest(str(key), names)}")
    for name in names:
        if name not in content:
            raise UsageError(f"{where}: missing key {name!r}; `git diff {where.split(':')[0]}` shows what changed")
    return kind(**{name: _value(hints[name], content[name], _join(where, name)) for name in names})


def _join(where: str, name: str) -> str:
    """`params.yaml` + `stems` -> `params.yaml: stems`; `params.yaml: stems` + `bass` -> `params.yaml: stems.bass`."""
    return f"{where}.{name}" if ": " in where else f"{where}: {name}"


def _nearest(key: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(known)}"


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return parse(typing.cast(type[Any], kind), value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Mapping:
        if not isinstance(value, Mapping) or not value:
            raise UsageError(f"{where}: expected named blocks, found {value!r}")
        return types.MappingProxyType({str(k): _value(arguments[1], v, _join(where, str(k))) for k, v in value.items()})
    if origin is tuple:
        variable = len(arguments) == 2 and arguments[1] is Ellipsis
        if not isinstance(value, list) or (not variable and len(value) != len(arguments)):
            raise UsageError(f"{where}: expected a list{'' if variable else f' of {len(arguments)}'}, found {value!r}")
        return tuple(_value(arguments[0], item, where) for item in value)
    return _scalar(kind, value, where)


def _scalar(kind: type, value: Any, where: str) -> Any:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if kind is float and not isinstance(value, bool):
        try:  # YAML 1.1 reads 3e-05 as a text, and that is how DVC writes it
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if number == number and abs(number) != float("inf"):
            return number
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise UsageError(f"{where}: expected {names[kind]}, found {value!r}")


def requirement(where: str) -> Requirement:
    """A function `(condition, name, expected)` that refuses a setting whose condition is false.

    Args:
        where: the file, for the message.
    """

    def require(condition: bool, name: str, expected: str) -> None:
        if not condition:
            raise UsageError(f"{where}: {name}: expected {expected}")

    return require
