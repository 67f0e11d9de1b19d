"""The wheel of nemo_toolkit enters, by pip, a cache outside the repository; NeMo's column coder and tabular
tokenizer leave, unmodified, without installing NeMo (its package imports torch, Lightning and more).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import types
import warnings
import zipfile
from pathlib import Path
from types import ModuleType

VERSION = "2.7.3"
"""The last release that holds the tabular tokenizer."""

FOLDER = "nemo/collections/common/tokenizers/"
MODULES = ("tokenizer_spec", "column_coder", "tabular_tokenizer")


def cache_folder() -> Path:
    """$NEMO_WHEEL_CACHE, or nemo_tabular under the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("NEMO_WHEEL_CACHE") or Path(home) / "nemo_tabular" / "nemo_wheel")


def wheel() -> Path:
    """The wheel's path; downloaded with pip at the first call."""
    folder = cache_folder()
    path = folder / f"nemo_toolkit-{VERSION}-py3-none-any.whl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, f"nemo_toolkit=={VERSION}", "--dest", str(folder)], check=True)
    return path


def load() -> tuple[ModuleType, ModuleType]:
    """(column_coder, tabular_tokenizer), the files as they are in the wheel."""
    with zipfile.ZipFile(wheel()) as archive:
        for name in MODULES:
            archive.extract(f"{FOLDER}{name}.py", cache_folder() / "source")
    _pretend_packages()
    warnings.filterwarnings("ignore", module="sklearn")
    loaded = {name: _load_file(name) for name in MODULES}
    return loaded["column_coder"], loaded["tabular_tokenizer"]


def _pretend_packages() -> None:
    """Empty packages under NeMo's names, and the one thing the three files want from elsewhere: a logger."""
    name = ""
    for part in ("nemo", "collections", "common", "tokenizers"):
        name = f"{name}.{part}" if name else part
        package = types.ModuleType(name)
        package.__path__ = []
        sys.modules[name] = package
    logger = logging.getLogger("nemo")
    logger.setLevel(logging.ERROR)
    utilities = types.ModuleType("nemo.utils")
    utilities.logging = logger  # type: ignore[attr-defined]
    sys.modules["nemo.utils"] = utilities


def _load_file(name: str) -> ModuleType:
    full = f"nemo.collections.common.tokenizers.{name}"
    path = cache_folder() / "source" / f"{FOLDER}{name}.py"
    spec = importlib.util.spec_from_file_location(full, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module
