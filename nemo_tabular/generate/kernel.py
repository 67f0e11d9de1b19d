"""C source comes in; a loaded shared library leaves, compiled once for this machine and kept in the user's
cache. Without a compiler, or with NEMO_TABULAR_COMPILE=0, there is none and the callers use torch.

Environment: NEMO_TABULAR_COMPILE=0 switches compiling off, NEMO_TABULAR_CACHE names the folder (default:
nemo_tabular under XDG_CACHE_HOME or ~/.cache), CC the compiler.
"""

import contextlib
import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("csrc")
# No -ffast-math: it may reorder sums, and the same row could then differ between two places in a tile.
FLAGS = ("-O3", "-fPIC", "-shared", "-fno-math-errno", "-ffp-contract=fast")
# For this very CPU; for its family where the compiler does not know `native`.
TUNING: tuple[tuple[str, ...], ...] = (("-march=native",), ("-mcpu=native",), ())
TIMEOUT = 120  # seconds; the compiler takes one or two


@cache
def library() -> ctypes.CDLL | None:
    """The compiled decoder, or None where it cannot be had; the reason is logged once."""
    if os.environ.get("NEMO_TABULAR_COMPILE", "1").lower() in ("0", "false", "off", "no"):
        log.info("compiled decoder switched off by NEMO_TABULAR_COMPILE: decoding with torch")
        return None
    try:
        return _load(_compiled())
    except (OSError, RuntimeError, AttributeError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        log.warning(
            "no compiled decoder (%s): decoding with torch, several times slower", "; ".join(reason[:2])
        )
        return None


def _load(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    loaded.open_steps.restype = ctypes.c_void_p
    for name in ("lanes", "block", "decode_rows", "decode_step", "close_steps"):
        getattr(loaded, name).restype = None if name == "close_steps" else ctypes.c_int
    return loaded


def _compiled() -> Path:
    """Path of the library; compiled into a temporary name and renamed, so no half library is ever loaded."""
    compiler = _compiler()
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".c", ".h"))
    source = b"\0".join(path.read_bytes() for path in files)
    machine = f"{platform.system()} {platform.machine()} {_cpu_flags()}"
    key = hashlib.sha256(b"\0".join([source, repr((compiler, FLAGS, TUNING, machine)).encode()])).hexdigest()
    folder = _folder()
    target = folder / f"decode-{key[:32]}.so"
    if not target.exists():
        handle, name = tempfile.mkstemp(suffix=".so", prefix="decode-", dir=folder)
        os.close(handle)
        try:
            _run(compiler, name)
            os.replace(name, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
    return target


def _run(compiler: str, target: str) -> None:
    """Compile with the first tuning that the compiler takes; CalledProcessError if it takes none."""
    for tuning in TUNING:
        command = [compiler, *FLAGS, *tuning, *map(str, sorted(SOURCES.glob("*.c"))), "-o", target, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        if done.returncode == 0:
            return
    done.check_returncode()


def _compiler() -> str:
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        found = name and shutil.which(name)
        if found:
            return found
    raise FileNotFoundError("no C compiler: none of CC, cc, gcc, clang is there")


def _cpu_flags() -> str:
    """What tells this CPU from others that share the cache folder, as on a cluster's home."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


def _folder() -> Path:
    """A folder that only this user can write to: a library from anywhere else is not to be loaded."""
    chosen = os.environ.get("NEMO_TABULAR_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemo_tabular"
    folder = Path(chosen) if chosen else base
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(
            f"{folder} can be written by others; set NEMO_TABULAR_CACHE to a folder of your own"
        )
    return folder
