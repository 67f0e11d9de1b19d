"""Lets megatron-core 0.16.1 run on a machine without CUDA: an import hook, scoped to `megatron.*`.

Enters: the source of each Megatron module at import. Leaves: the same module with `torch.cuda` replaced by a
stand-in.

Torch itself is never patched (patching `torch.cuda.*` breaks torch's own compiler tables). Each module is
rewritten on its syntax tree while it is imported:

1. the expression `torch.cuda` becomes the object `CPU_CUDA` of this file; 2. the string constants "cuda" and
"cuda:N" become "cpu", "torch.cuda.FloatTensor" becomes "torch.FloatTensor"; 3. the call `x.cuda(...)` becomes
`x.cpu()`, `x.record_stream(...)` becomes None, `pin_memory=True` becomes False.

On a machine with CUDA nothing is installed and Megatron runs as it is.
"""

import ast
import contextlib
import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import torch

KEEP_BYTES = 256 << 20


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    return None


class _Stream:
    """Stands for a CUDA stream or event: everything on a CPU is already synchronised."""

    cuda_stream = 0

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    wait_stream = wait_event = synchronize = record = wait = _nothing

    def record_event(self, event: Any = None) -> Any:
        return event or _Stream()

    def query(self) -> bool:
        return True

    def elapsed_time(self, _other: Any) -> float:
        return 0.0


class _CpuCuda:
    """What Megatron sees as `torch.cuda`; names not listed fall through to the real one."""

    Stream = Event = _Stream
    nvtx = SimpleNamespace(range_push=_nothing, range_pop=_nothing)
    set_device = synchronize = empty_cache = reset_peak_memory_stats = staticmethod(_nothing)

    @staticmethod
    def current_device() -> torch.device:
        return torch.device("cpu")

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def get_rng_state(device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    @staticmethod
    def manual_seed(seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed
    random = SimpleNamespace(get_rng_state=get_rng_state, set_rng_state=set_rng_state)

    @staticmethod
    def memory_allocated(*_args: Any, **_kwargs: Any) -> int:
        return 0

    max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated

    @staticmethod
    def memory_stats(*_args: Any, **_kwargs: Any) -> dict[str, int]:
        keys = ("allocated_bytes.all.current", "reserved_bytes.all.current", "allocated_bytes.all.peak")
        return dict.fromkeys(keys, 0)

    @staticmethod
    def current_stream(*_args: Any, **_kwargs: Any) -> _Stream:
        return _Stream()

    default_stream = current_stream

    @staticmethod
    def stream(_stream: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cuda, name)


CPU_CUDA = _CpuCuda()


class _Rewrite(ast.NodeTransformer):
    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr == "cuda" and isinstance(node.value, ast.Name) and node.value.id == "torch":
            return ast.copy_location(ast.Name("_CPU_CUDA", node.ctx), node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute):
            if node.func.attr == "cuda":
                node.func.attr, node.args, node.keywords = "cpu", [], []
            elif node.func.attr == "record_stream":
                return ast.copy_location(ast.Constant(None), node)
        for keyword in node.keywords:
            if keyword.arg == "pin_memory":
                keyword.value = ast.copy_location(ast.Constant(False), keyword.value)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        text = node.value
        if isinstance(text, str):
            if text == "cuda" or text.startswith("cuda:"):
                node.value = "cpu"
            elif text.startswith("torch.cuda.") and text.endswith("Tensor"):
                node.value = "torch." + text.removeprefix("torch.cuda.")
        return node


# Bytecode of another version of this file's rewriting must not be taken for this one's.
_THIS_REWRITE = f"{zlib.crc32(Path(__file__).read_bytes()):08x}"


def _own_bytecode(path: str) -> str:
    """Where a file that Python would read or write goes: bytecode has a name of our own."""
    stem, _, suffix = path.rpartition(".")
    return f"{stem}.nemo_tabular-{_THIS_REWRITE}.pyc" if suffix == "pyc" else path


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the rewritten source. Its bytecode is kept beside Python's own, under a name that no other
    program reads: to rewrite and compile anew is a third of what a process takes to start.
    """

    def get_data(self, path: str) -> bytes:
        return super().get_data(_own_bytecode(path))

    def set_data(self, path: str, data: Any, **options: Any) -> None:  # type: ignore[override]
        super().set_data(_own_bytecode(path), data, **options)

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        source = data if isinstance(data, str) else importlib.util.decode_source(data)
        tree = ast.parse(source, path)
        if "cuda" in source:
            tree = ast.fix_missing_locations(_Rewrite().visit(tree))
        return compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["_CPU_CUDA"] = CPU_CUDA
        super().exec_module(module)
        if module.__name__ in _AFTER_IMPORT:
            _AFTER_IMPORT[module.__name__](module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith("megatron."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
            spec.cached = None
        return spec


def _one_generator(module: ModuleType) -> None:
    """Megatron's CUDA generator is the CPU's own here: read and set that one, without its warning."""
    module._get_cuda_rng_state = lambda device="cpu", clone=False, graph_safe=False: torch.get_rng_state()  # type: ignore[attr-defined]
    module._set_cuda_rng_state = lambda state, device=-1, graph_safe=False: torch.set_rng_state(state)  # type: ignore[attr-defined]
    logging.getLogger(module.__name__).addFilter(lambda r: "CPU RNG state changed" not in r.getMessage())


def _no_compiler(module: ModuleType) -> None:
    """None of what Megatron compiles runs here, but to name it loads torch's compiler: an eighth of the time
    that a process takes to start.
    """
    module.disable_jit_fuser()


_AFTER_IMPORT: dict[str, Callable[[ModuleType], None]] = {
    "megatron.core.jit": _no_compiler,
    "megatron.core.tensor_parallel.random": _one_generator,
}


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed instead of returning it to the system at once.

    A step frees and asks again for the same few megabytes; by default each time costs a system call and the
    page faults of fresh memory, a tenth of a step on small models. Does nothing on other C libraries.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_mmap_threshold, KEEP_BYTES)
        mallopt(m_trim_threshold, KEEP_BYTES)


def install() -> bool:
    """Install the hook where there is no CUDA. True if it acted; idempotent.

    Raises RuntimeError if `megatron.core` was imported before, since that copy would still ask for CUDA.
    """
    if torch.cuda.is_available() or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return False
    if any(name.startswith("megatron.core") for name in sys.modules):
        raise RuntimeError(
            "import nemo_tabular.engine before megatron.core: on a CPU its import must be prepared"
        )
    sys.meta_path.insert(0, _Finder())
    keep_freed_memory()
    return True
