"""One process on each node of a job enters, started together by srun; either all nodes are fit to run on, or
every fault leaves with its node's name.

Checked are the GPUs, the shared folder, the clocks, the versions of what computes, and that the nodes reach
each other: what otherwise shows itself minutes later, on one rank of many, as a message of some library's.
"""

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path

from ..errors import ConfigError

# torch's own account of a failed connection is a page of C++ frames; what a user needs is said here.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")

import torch
from torch.distributed import DistNetworkError, DistStoreError, TCPStore

PATIENCE = float(os.environ.get("NEMO_TABULAR_PREFLIGHT_SECONDS", "120"))  # nodes may still unpack an image
# Seconds until another node's file must be seen: NFS remembers for a while that it was not there.
SEEN_WITHIN = float(os.environ.get("NEMO_TABULAR_PREFLIGHT_SEEN", "30"))
CLOCKS_AGREE = 2.0  # s; beyond it files seem to come from the future, and logs are out of order
PACKAGES = ("nemo-tabular", "torch", "megatron-core", "transformer-engine", "apex")


@dataclass(frozen=True)
class Facts:
    """What one node found out about itself."""

    node: str
    versions: dict[str, str]
    gpus: list[str]
    """Names of those that computed something."""
    gpus_wanted: int
    folder_faults: list[str]
    clock: float
    """Seconds since 1970, read on all nodes at the same moment."""


def preflight(folder: Path) -> str:
    """Check this node together with the others of the job. Returns what was found on node 0, "" elsewhere.

    Raises ConfigError: on node 0 naming each fault of any node, elsewhere if node 0 is not reached.
    """
    number, nodes = int(os.environ.get("SLURM_NODEID", 0)), int(os.environ.get("SLURM_STEP_NUM_NODES", 1))
    meeting = Meeting(number, nodes)
    folder_faults = shared_faults(folder, meeting)
    gpus, wanted = working_gpus(), int(os.environ.get("SLURM_GPUS_ON_NODE") or 0)
    meeting.gather("ready")
    facts = Facts(meeting.name, versions(), gpus, wanted, folder_faults, time.time())
    told = meeting.gather("facts", json.dumps(asdict(facts)))
    if number:
        return ""
    everyone = [Facts(**json.loads(text)) for text in told]
    found = faults(everyone)
    if found:
        raise ConfigError("\n".join(found))
    return "\n".join(line(facts, everyone[0]) for facts in everyone)


class Meeting:
    """The nodes of the job around a store on node 0, at the address where the tasks will meet as well."""

    def __init__(self, number: int, nodes: int) -> None:
        self.number, self.nodes = number, nodes
        self.name = os.environ.get("SLURMD_NODENAME") or platform.node()
        host, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), int(os.environ.get("MASTER_PORT", 0))
        patience = timedelta(seconds=PATIENCE)
        try:
            self.store = TCPStore(host, port, None, number == 0, patience, wait_for_workers=False)
        except (DistNetworkError, DistStoreError) as error:
            if number == 0:
                why = f"cannot listen on port {port}: {error}. Set another MASTER_PORT"
            else:
                why = f"does not reach {host}:{port}; a firewall, or a name of another machine?"
            raise ConfigError(f"node {self.name}: {why}") from None
        self.store.set(f"name {number}", self.name)

    def gather(self, key: str, text: str = "") -> list[str]:
        """Wait until every node has said `text` under `key`, and give them all in order."""
        self.store.set(f"{key} {self.number}", text)
        said = [self._ask(key, n) for n in range(self.nodes)]
        # Node 0 holds the store: it goes on when all the others have what they came for.
        self.store.set(f"{key} heard {self.number}", "")
        if self.number == 0:
            for n in range(self.nodes):
                self._ask(f"{key} heard", n)
        return said

    def _ask(self, key: str, node: int) -> str:
        try:
            return self.store.get(f"{key} {node}").decode()
        except (DistNetworkError, DistStoreError):
            name = f"number {node}"
            with suppress(DistNetworkError, DistStoreError):
                if self.store.check([f"name {node}"]):
                    name = self.store.get(f"name {node}").decode()
            raise ConfigError(
                f"node {name} was not heard of for {PATIENCE:.0f} s; look at its log, or leave it out with "
                "sbatch --exclude"
            ) from None


def shared_faults(folder: Path, meeting: Meeting) -> list[str]:
    """Why this node cannot write to `folder`, and which nodes' files it does not see there."""
    mine = folder / f".preflight-{os.environ.get('SLURM_JOB_ID', os.getpid())}-{meeting.name}"
    problems = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mine.write_text(meeting.name)
    except OSError as error:
        problems.append(f"cannot write to {folder}: {error.strerror}")
    written = meeting.gather("wrote", "" if problems else mine.name)
    missing = [name for name in written if name and not _appears(folder / name)]
    if missing:
        owners = ", ".join(name.rpartition("-")[2] for name in missing)
        problems.append(
            f"{folder} is not the same folder as on {owners}; use one that all nodes share (run.dir=...)"
        )
    meeting.gather("seen")
    mine.unlink(missing_ok=True)
    return problems


def _appears(file: Path) -> bool:
    deadline = time.monotonic() + SEEN_WITHIN
    while not file.exists():
        if time.monotonic() > deadline:
            return False
        os.listdir(file.parent)  # makes NFS look again
        time.sleep(0.1)
    return True


def working_gpus() -> list[str]:
    """Names of the GPUs of this node that multiply two matrices rightly."""
    names = []
    for index in range(torch.cuda.device_count()):
        with suppress(RuntimeError):
            ones = torch.ones(64, 64, device=f"cuda:{index}")
            if (ones @ ones).eq(64).all():
                names.append(torch.cuda.get_device_name(index))
    return names


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute; those that are not there are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def faults(everyone: list[Facts]) -> list[str]:
    """What is wrong, a sentence a fault, with the node's name and what to do."""
    first, found = everyone[0], []
    for facts in everyone:
        if len(facts.gpus) < facts.gpus_wanted:
            found.append(
                f"node {facts.node}: {len(facts.gpus)} of {facts.gpus_wanted} GPUs work; see nvidia-smi "
                "there, or leave the node out with sbatch --exclude"
            )
        if sorted(facts.gpus) != sorted(first.gpus):
            found.append(
                f"node {facts.node}: GPUs {_counted(facts.gpus)}, on {first.node} {_counted(first.gpus)}; "
                "ask for nodes of one kind with sbatch --constraint"
            )
        found += [f"node {facts.node}: {fault}" for fault in facts.folder_faults]
        apart = facts.clock - first.clock
        if abs(apart) > CLOCKS_AGREE:
            found.append(
                f"node {facts.node}: its clock is {apart:+.1f} s from that of {first.node}; start NTP there"
            )
        found += [
            f"node {facts.node}: {name} {facts.versions.get(name, 'missing')}, on {first.node} "
            f"{first.versions.get(name, 'missing')}; use one environment for all nodes"
            for name in sorted(facts.versions.keys() | first.versions.keys())
            if facts.versions.get(name) != first.versions.get(name)
        ]
    return found


def _counted(names: list[str]) -> str:
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names)) or "none"


def line(facts: Facts, first: Facts) -> str:
    """One node that is fit, in one line."""
    gpus = f"{len(facts.gpus)} GPUs ({facts.gpus[0]})" if facts.gpus else "no GPUs"
    packages = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return f"{facts.node} is fit: {gpus}; folder shared; clock {facts.clock - first.clock:+.2f} s; {packages}"
