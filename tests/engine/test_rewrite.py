"""The import hook's bytecode: kept, found again, and out of every other program's sight."""

import importlib.util
import sys

from nemo_tabular.engine import cpu


def load(loader: importlib.abc.Loader) -> object:
    spec = importlib.util.spec_from_loader("rewritten", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module.device


def test_rewritten_bytecode_is_kept_under_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "rewritten.py"
    file.write_text("device = 'cuda'\n")
    assert load(cpu._Loader("rewritten", str(file))) == "cpu"
    (kept,) = (tmp_path / "__pycache__").iterdir()
    assert ".nemo_tabular-" in kept.name
    assert load(importlib.machinery.SourceFileLoader("rewritten", str(file))) == "cuda"

    def no_need(*_args: object, **_options: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(cpu._Loader, "source_to_code", no_need)
    assert load(cpu._Loader("rewritten", str(file))) == "cpu"


def test_bytecode_of_a_source_that_has_changed_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "rewritten.py"
    file.write_text("device = 'cuda'\n")
    load(cpu._Loader("rewritten", str(file)))
    file.write_text("device = 'cuda:0 '\n")
    assert load(cpu._Loader("rewritten", str(file))) == "cpu"
