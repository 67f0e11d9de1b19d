"""Settings and figures of one piece of a benchmark enter; a JSON file that a later run uses again leaves, and
a folder in which a training that was stopped goes on."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nemo_tabular import Synthesizer
from nemo_tabular.config import Config
from nemo_tabular.store import TokenStore
from nemo_tabular.train.run import train
from nemo_tabular.train.schedule import resolve

ANY_ROWS = 10_000


class Stopped(Exception):
    """Training was stopped on the way; the same command goes on."""


def write(path: Path, text: str) -> None:
    """The whole file or none of it."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def kept(path: Path, settings: dict[str, Any]) -> Any:
    """What was kept there under equal settings, or None."""
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    return result["result"] if result["settings"] == settings else None


def keep(path: Path, settings: dict[str, Any], result: Any) -> None:
    """Leave a result there, in place of another."""
    write(path, json.dumps({"settings": settings, "result": result}, indent=1))


def told(config: Config) -> dict[str, Any]:
    """What a result depends on in a configuration; of what is left to the defaults, some table's."""
    return resolve(config, ANY_ROWS, histories=False).model_dump(mode="json", exclude={"run": {"dir"}})


def working_folder(folder: Path, settings: dict[str, Any]) -> Path:
    """A folder for the work with these settings; what is there of others is moved aside."""
    note = folder / "settings.json"
    if note.exists() and json.loads(note.read_text()) != settings:
        folder.rename(folder.with_name(f"{folder.name}.{int(time.time())}"))
    folder.mkdir(parents=True, exist_ok=True)
    write(note, json.dumps(settings))
    return folder


@contextmanager
def counted(path: Path) -> Iterator[None]:
    """Add the CPU seconds spent within to the number in a file, over all starts (but those that end by
    SIGKILL)."""
    before, begun = seconds(path), time.process_time()
    try:
        yield
    finally:
        write(path, f"{before + time.process_time() - begun:.2f}")


def seconds(path: Path) -> float:
    """What `counted` has counted there."""
    return float(path.read_text()) if path.exists() else 0.0


def trained(config: Config, store: TokenStore, about: str) -> Synthesizer:
    """The model of config.run.dir, trained to its end. Raises Stopped where it was stopped."""
    result = train(config, store)
    if not result.finished:
        raise Stopped(f"{about}: stopped at step {result.steps}; the same command goes on from there")
    assert config.run.dir is not None
    return Synthesizer.load(config.run.dir)
