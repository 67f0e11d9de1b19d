"""The text of an sbatch script enters, ours or one that was edited; what is wrong with it leaves, a sentence
a fault.

These are the faults that neither bash nor shellcheck nor sbatch sees: sbatch passes over a directive that is
not quite one, and a job whose log cannot be opened ends without a word.
"""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..config import Config, load_config
from ..engine.layout import ParallelLayout
from ..errors import ConfigError

# sbatch's one-letter options that matter here
SHORT = {"N": "nodes", "n": "ntasks", "o": "output", "e": "error", "t": "time", "D": "chdir"}


@dataclass(frozen=True)
class Directive:
    """One option of an #SBATCH line, by its long name."""

    line: int
    name: str
    value: str


def faults(text: str, where: str, *, log_folders: bool = True) -> list[str]:
    """What is wrong with a script, each with its line and what to do; empty if nothing is."""
    found = [f"{where}:{line}: {what}" for line, what in _misplaced(text)]
    options = {d.name: d for d in directives(text)}
    checks = [_signal(options), _tasks(text, options)] + ([_log_folders(options)] if log_folders else [])
    return found + [f"{where}:{line}: {what}" for check in checks for line, what in check]


def directives(text: str) -> list[Directive]:
    """The options that sbatch will see: those before the first command."""
    found = []
    for number, line in enumerate(text.splitlines()[: _first_command(text) - 1], start=1):
        if line.startswith("#SBATCH"):
            words = shlex.split(line.removeprefix("#SBATCH"), comments=True)
            found += [Directive(number, *option) for option in _options(words)]
    return found


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """(long name, value) of each option in `--nodes=2 -t 5 --requeue`."""
    while words:
        name, equals, value = words.pop(0).partition("=")
        if not name.startswith("--"):
            name, value = SHORT.get(name[1:2], name[1:2]), name[2:] + equals + value
        if not value and words and not words[0].startswith("-"):
            value = words.pop(0)
        yield name.removeprefix("--"), value


def _first_command(text: str) -> int:
    """Number of the first line that is neither blank nor a comment: there sbatch stops reading directives."""
    lines = text.splitlines()
    commands = (n for n, line in enumerate(lines, start=1) if line.strip() and line.lstrip()[0] != "#")
    return next(commands, len(lines) + 1)


def _misplaced(text: str) -> Iterator[tuple[int, str]]:
    first = _first_command(text)
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"#\s*sbatch\b", line.strip(), re.IGNORECASE) is None:
            continue
        if not line.startswith("#SBATCH"):
            yield number, f"{line.strip()!r} is a comment to sbatch; write it as #SBATCH at the line's start"
        elif number > first:
            yield (
                number,
                f"{line.strip()!r} stands after the first command (line {first}), where sbatch no longer "
                f"looks; move it above line {first}",
            )


def _log_folders(options: dict[str, Directive]) -> Iterator[tuple[int, str]]:
    base = Path(options["chdir"].value) if "chdir" in options else Path.cwd()
    for name in ("output", "error"):
        if name not in options:
            continue
        option = options[name]
        folder = (base / option.value.replace("%%", "\0")).parent
        shown = str(folder).replace("\0", "%")
        if "%" in str(folder):
            yield option.line, f"--{name}: the folder {shown} holds a %, but SLURM makes no folders; name one"
        elif not os.access(shown, os.W_OK | os.X_OK):
            state = "cannot be written" if Path(shown).is_dir() else "does not exist"
            yield (
                option.line,
                f"--{name}: the folder {shown} {state}; the job would end at once, without a log",
            )


def _signal(options: dict[str, Directive]) -> Iterator[tuple[int, str]]:
    signal, time = options.get("signal"), options.get("time")
    if signal is None:
        return
    if not re.fullmatch(r"B:(SIG)?USR1(@\d+)?", signal.value):
        yield signal.line, f"--signal={signal.value}: the script waits for B:USR1@SECONDS, and would not save"
    ahead, limit = int(signal.value.partition("@")[2] or 60), None if time is None else seconds(time.value)
    if limit is not None and ahead >= limit:
        yield (
            signal.line,
            f"--signal: asks to save {ahead} s before the end, but --time gives only {limit} s; "
            "ask for more time, or for less ahead",
        )


def seconds(time: str) -> int | None:
    """Seconds of a time as sbatch takes it (minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S); None if it is none."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if match is None:
        return None
    days, first, second, third = (int(part or 0) for part in match.groups())
    if match[1] is not None or match[4] is not None:
        return ((days * 24 + first) * 60 + second) * 60 + third
    return first * 60 + second


def _tasks(text: str, options: dict[str, Directive]) -> Iterator[tuple[int, str]]:
    """The ranks that are started against those that the recipe's layout wants."""
    line, words = command(text)
    if "train" not in words:
        return
    arguments = words[words.index("train") + 1 :]
    base = Path(options["chdir"].value) if "chdir" in options else Path.cwd()
    try:
        config = load_config(base / arguments[0], arguments[1:])
        check_layout(config, tasks(options))
    except (ConfigError, IndexError) as error:
        yield line, f"COMMAND: {error}"


def tasks(options: dict[str, Directive]) -> int:
    """How many tasks srun will start."""

    def number(name: str, default: int) -> int:
        text = options[name].value if name in options else ""
        return int(text) if text.isdigit() else default

    each = number("ntasks-per-node", 1)
    return number("ntasks", number("nodes", 1) * each)


def command(text: str) -> tuple[int, list[str]]:
    """(line, words) of the script's COMMAND=( ... ); (0, []) where there is none."""
    match = re.search(r"^COMMAND=\((.*?)^\)", text, re.MULTILINE | re.DOTALL)
    if match is None:
        return 0, []
    return text.count("\n", 0, match.start()) + 1, shlex.split(match[1], comments=True)


def check_layout(config: Config, ranks: int) -> None:
    """Raises ConfigError where so many tasks do not divide up as the recipe says."""
    layout, data = ParallelLayout.of(config.model, ranks), config.data
    if data.global_batch_size is not None:  # else the training chooses one that fits
        layout.micro_batch_size(data.global_batch_size, data.micro_batch_size)
