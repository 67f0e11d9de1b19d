"""Who uses TransformerEngine and apex, told by what an import of them does afterwards."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

from nemo_tabular.engine import kernels


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """Whatever is hidden here is found again afterwards."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    for names in kernels.PACKAGES.values():
        for name in names:
            sys.modules.pop(name, None)
    return monkeypatch


def importer(**made):
    """Imports what is listed: a module, or the error that its import raises."""

    def load(name: str) -> ModuleType:
        found = made.get(name.partition(".")[0])
        if found is None:
            raise ModuleNotFoundError(name)
        if isinstance(found, Exception):
            raise found
        return found

    return load


BOTH = {"transformer_engine": ModuleType("transformer_engine"), "apex": ModuleType("apex")}


def test_on_a_card_both_are_used_where_they_import():
    assert kernels.choose(cuda=True, importer=importer(**BOTH)) == ["transformer_engine", "apex"]
    assert "apex" not in sys.modules  # left for Megatron to import


def test_on_a_card_what_is_broken_is_told_and_hidden(caplog):
    broken = BOTH | {"transformer_engine": OSError("undefined symbol: at::_ops")}
    assert kernels.choose(cuda=True, importer=importer(**broken)) == ["apex"]
    assert "undefined symbol" in caplog.text
    with pytest.raises(ImportError):
        importlib.import_module("transformer_engine")


def test_on_a_card_they_can_be_switched_off(modules):
    modules.setenv("NEMO_TABULAR_PLAIN", "1")
    assert kernels.choose(cuda=True, importer=importer(**BOTH)) == []


def test_without_a_card_megatron_does_not_see_them_even_where_they_are_installed(tmp_path):
    """In the build of the image, on a login node: the packages are there and the card is not."""
    for name in ("transformer_engine", "apex"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('no CUDA driver')")
    code = (
        "import nemo_tabular.engine.step, megatron.core.optimizer as o, torch;"
        "print(o.Adam is torch.optim.AdamW or o.Adam is torch.optim.Adam, o.USING_PYTORCH_OPTIMIZER)"
    )
    path = ":".join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}, text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.stdout == "True True\n", done.stderr
