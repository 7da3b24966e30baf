"""A file of `torch.save` as a description: names, shapes, plain values and where the numbers lie; nothing in it is ever run.

The promise: of the file we take numbers, names and shapes. Such a file is a zip archive: one pickle that describes everything,
and one member of raw numbers per tensor. The pickle of YourMT3+ names classes of its authors' program, such as
`utils.task_manager.TaskManager`, and a pickle can name any function of Python and have it called. The reader here knows the
few names that describe tensors; every other class becomes `Inert`, which holds nothing and does nothing, and is never imported.
A name of the standard library that is no plain data type (`os.system`, `builtins.eval`) is refused aloud.

Why not `torch.load(weights_only=True)` with stubs for the names of `get_unsafe_globals_in_checkpoint`? It is as safe, but a
foreign class made of a list or a dict stops it (Lightning's own `AttributeDict`, say), whatever its stub offers; its stubs are
registered for the whole process; and a stub for `builtins.eval` is as silent as one for `TaskManager`. The reader here notes
where a tensor lies, and reads the wanted ones, one after the other, when it is asked to: memory for one copy of those. The
archive's checksums are checked on the way.
"""

import _compat_pickle
import io
import pickle
import pickletools
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stemscribe.errors import CheckpointError

LONGEST_PICKLE = 64 * 2**20  # bytes; the published file's is below one MiB
LARGEST = 2**40  # numbers in a tensor; no checkpoint has more
LONGEST_REASON = 200  # characters

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# What of the standard library an honest pickle names. `getattr` stands for bound methods; like all of these it is not called.
PLAIN_DATA = {
    "builtins": "set frozenset list dict tuple int float complex str bytes bytearray bool range slice object getattr",
    "collections": "defaultdict deque Counter",
    "copyreg": "_reconstructor __newobj__ __newobj_ex__",
    "_codecs": "encode",
    "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
    "pathlib._local": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "uuid": "UUID",
    "functools": "partial",
    "logging": "getLogger",
    "re": "_compile",
}


class _Sealed:
    """What a pickle may hold of us; an attempt to set its state does nothing, on an instance or on the class."""

    __slots__ = ()

    def __setstate__(self, *state: Any) -> None:
        pass


class Inert(_Sealed):
    """Stands for every foreign class, function and object; takes whatever a pickle does to it and keeps none of it."""

    __slots__ = ()

    def __new__(cls, *arguments: Any, **named: Any) -> "Inert":
        """An inert object, whatever its arguments."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __call__(self, *arguments: Any, **named: Any) -> "Inert":
        """Itself, whatever its arguments."""
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, *items: Any) -> None:
        """Nothing."""

    extend = add = append


class _Entries(dict[Any, Any]):
    """An OrderedDict, without the attributes that torch hangs on it."""

    def __setstate__(self, *state: Any) -> None:
        pass


@dataclass(frozen=True, eq=False)
class _StorageType(_Sealed):
    """What a pickle names as `torch.FloatStorage`."""

    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class _Storage(_Sealed):
    """A member of the archive: `size` numbers of one type."""

    member: str
    dtype: torch.dtype
    size: int


class StoredTensor(_Sealed):
    """Where a tensor lies; `torch._utils._rebuild_tensor_v2` of a pickle makes one."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __new__(cls, storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> Any:
        """All checks stand here and not in `__init__`, which a pickle can leave out."""
        if not isinstance(storage, _Storage):
            return Inert()  # of a type that no weight of ours has
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(type(number) is int and 0 <= number <= LARGEST for number in numbers):
            raise _Refusal("describes a tensor that cannot be; fetch it again")
        tensor = super().__new__(cls)
        tensor.storage, tensor.offset, tensor.shape, tensor.strides = storage, offset, tuple(shape), tuple(strides)
        return tensor

    @property
    def end(self) -> int:
        """One more than the index of its last number in the storage."""
        reach: int = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return self.offset + reach + 1


class _Parameter(_Sealed):
    """`torch._utils._rebuild_parameter`: the tensor inside."""

    def __new__(cls, data: Any, *unused: Any) -> Any:
        return data


KNOWN: dict[str, Any] = {
    "collections.OrderedDict": _Entries,
    "torch._utils._rebuild_tensor_v2": StoredTensor,
    "torch._utils._rebuild_parameter": _Parameter,
    **{f"torch.{name}": _StorageType(dtype) for name, dtype in DTYPES.items()},
}


class _Refusal(Exception):
    """Something a pickle must not do; the text completes "the file ..."."""


class _Reader(pickle.Unpickler):
    """Rebuilds the description of a checkpoint. Whatever it calls went through `find_class`, so it is ours."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global: one of KNOWN, or `Inert`; nothing is imported."""
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))  # torch writes the names of Python 2
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        full = f"{module}.{name}"
        if full in KNOWN:
            return KNOWN[full]
        if module.split(".")[0] in sys.stdlib_module_names and name not in PLAIN_DATA.get(module, "").split():
            raise _Refusal(f"asks for {full!r}, which is no data; nothing was run, and this file is not to be trusted")
        return Inert

    def persistent_load(self, identity: Any) -> _Storage | Inert:
        """A storage, described as ("storage", type, member, device, size)."""
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
            raise _Refusal("points to something outside that is no tensor")
        _, kind, member, _, size = identity
        if not isinstance(kind, _StorageType):
            return Inert()
        if not isinstance(member, str) or type(size) is not int or not 0 <= size <= LARGEST:
            raise _Refusal("points to a tensor in a way we do not know")
        return _Storage(member, kind.dtype, size)


class Archive:
    """The zip archive of a checkpoint: its description, and its tensors one by one."""

    def __init__(self, path: Path, usual_bytes: int) -> None:
        self.path = path
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder; name the .ckpt file in it")
        try:
            with open(path, "rb") as stream:
                start = stream.read(64)
            self.zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise CheckpointError(f"no such file: {path}") from None
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
        except Exception:  # zipfile's many ways to say that it is broken
            raise CheckpointError(f"{path} {_what_it_is(start, path.stat().st_size, usual_bytes)}") from None
        self.members = {info.filename.partition("/")[2]: info for info in self.zip.infolist()}

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.zip.close()

    def content(self) -> dict[Any, Any]:
        """The checkpoint's entries, with `StoredTensor` for tensors and `Inert` for whatever we do not know."""
        if "data.pkl" not in self.members:
            raise CheckpointError(f"{self.path} is a zip archive but no checkpoint: it holds no data.pkl")
        if self.members["data.pkl"].file_size > LONGEST_PICKLE:
            raise CheckpointError(f"{self.path} is not a checkpoint of YourMT3: its description is far too long")
        if "byteorder" in self.members and self._bytes("byteorder") != b"little":
            raise CheckpointError(f"{self.path} was written on a big-endian machine; convert it there")
        description = self._bytes("data.pkl")
        try:
            _check_plausible(description)
            content = _Reader(io.BytesIO(description)).load()
        except _Refusal as refusal:
            raise CheckpointError(f"{self.path} {refusal}") from None
        except Exception as error:  # a broken pickle can raise whatever it likes
            raise CheckpointError(f"{self.path} has a broken description ({_line(error)}); fetch it again") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{self.path} is no Lightning checkpoint: it holds no entries")
        return content

    def read(self, key: str, value: StoredTensor) -> Tensor:
        """The numbers of weight `key`, finite, contiguous."""
        storage = value.storage
        member = f"data/{storage.member}"
        numbers = bytearray(self._bytes(member)) if member in self.members else bytearray()
        if len(numbers) != storage.size * storage.dtype.itemsize or value.end > storage.size:
            raise CheckpointError(f"{self.path} lacks numbers of {key}; fetch it again")
        flat = torch.frombuffer(numbers, dtype=storage.dtype)
        tensor = flat.as_strided(value.shape, value.strides, value.offset).contiguous()
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{self.path} has NaN or infinite weights in {key}; this training has diverged")
        return tensor if tensor.numel() == flat.numel() else tensor.clone()

    def _bytes(self, member: str) -> bytes:
        info = self.members[member]
        if info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{self.path} is a compressed archive; checkpoints are not, so it is none or was packed anew")
        try:
            return self.zip.read(info)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self.path} is damaged ({_line(error)}); fetch it again") from error


def _what_it_is(start: bytes, size: int, usual_bytes: int) -> str:
    """Complete "the file ..." for one that is no zip archive, from its first bytes."""
    if not size:
        return "is empty; fetch it again"
    if start.startswith(b"PK\x03\x04"):
        return f"is truncated at {size:,} bytes (the published file has {usual_bytes:,}); fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer and not the file itself; fetch it with `git lfs pull`, or from its page"
    if start.lstrip()[:1] == b"<":
        return "is a web page and not the file itself; fetch it again"
    return "is no checkpoint: a Lightning checkpoint is a zip archive, and this is none"


def _check_plausible(description: bytes) -> None:
    """Walk through the opcodes without doing what they say: none missing, none asking for more memory than it can fill."""
    for opcode, argument, _ in pickletools.genops(description):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(str(argument)) <= len(description):
            raise _Refusal(f"remembers an object as number {argument}; it is made to fill the memory")
        if opcode.name in ("EXT1", "EXT2", "EXT4"):
            raise _Refusal("names classes by number; checkpoints do not")


def _line(error: Exception) -> str:
    """The message of an error, which may quote the file, in one line that can be shown."""
    text = " ".join(str(error).split())[:LONGEST_REASON]
    return text if text.isprintable() else type(error).__name__
