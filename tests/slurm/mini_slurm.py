"""A folder comes in; a real SLURM of several virtual nodes on loopback runs there until it is stopped.

slurmctld, munged and one slurmd a node, without systemd, cgroups or a database, all talking over 127.0.0.1.
The one trace outside the folder are the names of the nodes in /etc/hosts: torch must resolve them.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
HOSTS = Path("/etc/hosts")

CONF = """\
ClusterName=mini
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
PlugStackConfig={folder}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=6
MessageTimeout=10
KillWait=3
CompleteWait=0
InactiveLimit=0
JobRequeue=1
AccountingStorageType=accounting_storage/none
GresTypes=gpu
PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
"""
# The nodes are said to have more processors and memory than there are, and a GPU that is none.
NODE = (
    "NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4096 Gres=gpu:1 "
    "State=UNKNOWN\n"
)


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"{', '.join(absent)} not installed (as root: apt-get install slurm-wlm munge)"
    return "" if os.access(HOSTS, os.W_OK) else f"{HOSTS} cannot be written, so nodes would have no names"


class MiniSlurm:
    """Nodes `names`; commands run with `environment` see this cluster and no other."""

    def __init__(self, folder: Path, nodes: int = 4) -> None:
        self.folder, self.port = folder, _free_ports(nodes + 1)
        self.names = [f"mini{self.port}n{n}" for n in range(1, nodes + 1)]
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}

    # ---- life ----

    def start(self) -> None:
        self._configure()
        with open(HOSTS, "a") as hosts:
            hosts.write(f"127.0.0.1 {' '.join(self.names)}\n")
        self._munged("--force", "--num-threads=2")
        self.run("slurmctld", "-c")
        until(lambda: self.run("scontrol", "ping", check=False).count("UP"), 20, "slurmctld does not answer")
        for name in self.names:
            self.start_node(name)
        up = lambda: self.run("sinfo", "-hN", "-t", "idle", "-o", "%N").split() == self.names  # noqa: E731
        until(up, 30, f"the nodes do not come up, see {self.folder}")

    def stop(self) -> None:
        for job in self.run("squeue", "-ho", "%A", check=False).split():
            self.run("scancel", "--full", "--signal=KILL", job, check=False)
            self.run("scancel", job, check=False)
        for pid in [p for name in (None, *self.names) for p in self._daemons(name)]:
            _kill_tree(pid)
        self._munged("--stop")
        # Written over, not renamed: in a container /etc/hosts is a mount.
        HOSTS.write_text("".join(s for s in HOSTS.read_text().splitlines(True) if self.names[0] not in s))

    def start_node(self, name: str) -> None:
        self.run("slurmd", "-N", name, "-f", str(self.folder / "slurm.conf"))

    def kill_node(self, name: str) -> None:
        """A power cut: the node's slurmd, the steps on it and everything under them, at once."""
        for pid in self._daemons(name):
            _kill_tree(pid)
        (self.folder / f"slurmd.{name}.pid").unlink(missing_ok=True)

    # ---- jobs ----

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command with this cluster as its own, and give what it prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        if check and done.returncode:
            raise RuntimeError(
                f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def job(self, number: int) -> dict[str, str]:
        """What `scontrol show job` says, by field; asked again where a busy slurmctld hangs up."""
        told = ""

        def answered() -> bool:
            nonlocal told
            told = self.run("scontrol", "-o", "show", "job", str(number), check=False)
            return "JobState=" in told

        until(answered, 20, f"slurmctld says nothing of job {number}")
        return dict(re.findall(r"(\w+)=(\S*)", told))

    def wait(self, number: int, *, seconds: float = 90) -> dict[str, str]:
        """Wait for a job to end; one back in the queue is not left to wait there for SLURM's two minutes.

        Two seconds it waits all the same: a job that starts in the second in which it was ended is taken for
        that one by slurmd, and killed.
        """
        sent_on = ""

        def ended() -> bool:
            nonlocal sent_on
            job = self.job(number)
            if job["JobState"] == "PENDING" and job["Restarts"] != "0" and job["Restarts"] != sent_on:
                sent_on = job["Restarts"]
                # it may have started by now, and cannot be updated then
                self.run("scontrol", "update", f"jobid={number}", "StartTime=now+2", check=False)
            return job["JobState"] in ENDED

        until(ended, seconds, lambda: f"job {number} does not end: {self.job(number)}")
        return self.job(number)

    # ---- inside ----

    def _configure(self) -> None:
        (self.folder / "state").mkdir(parents=True)
        names = {"host": socket.gethostname().split(".")[0], "user": _user(), "folder": self.folder}
        conf = CONF.format(port=self.port, nodes=",".join(self.names), **names)
        for n, name in enumerate(self.names, start=1):
            (self.folder / "spool" / name).mkdir(parents=True)
            conf += NODE.format(name=name, port=self.port + n)
        (self.folder / "slurm.conf").write_text(conf)
        (self.folder / "plugstack.conf").touch()
        (self.folder / "fakegpu0").symlink_to("/dev/null")  # a GPU must be a character device with a number
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/fakegpu0\n")
        # Left to detect cgroups, slurmd does not start where none are mounted; 22.05 cannot switch them off.
        version = int(re.findall(r"\d+", self.run("slurmd", "-V"))[0])
        plugin = "disabled" if version >= 23 else "cgroup/v1"
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
        self.folder.chmod(0o711)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)

    def _munged(self, *options: str) -> None:
        files = {
            "socket": "socket",
            "key-file": "key",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        self.run("munged", *options, *(f"--{o}={self.folder}/munge.{end}" for o, end in files.items()))

    def _daemons(self, node: str | None) -> Iterator[int]:
        """slurmctld (None), or the slurmd and slurmstepds of a node: those that hold its log open."""
        log = self.folder / ("slurmctld.log" if node is None else f"slurmd.{node}.log")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "comm").read_text().startswith("slurm") and any(
                    os.readlink(handle) == str(log) for handle in (process / "fd").iterdir()
                ):
                    yield int(process.name)
            except OSError:
                continue


def until(condition: Callable[[], object], seconds: float, complaint: str | Callable[[], str]) -> None:
    """Wait for a condition, or fail with the complaint."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint if isinstance(complaint, str) else complaint())
        time.sleep(0.1)


def _kill_tree(pid: int) -> None:
    """SIGKILL to a process and to all under it, the children found before their parent dies."""
    try:
        children = [
            int(c)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for c in (task / "children").read_text().split()
        ]
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return
    for child in children:
        _kill_tree(child)


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _user() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def _free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on."""
    for port in range(17_000 + os.getpid() % 900 * 3, 32_000, count):
        try:
            for offset in range(count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
            return port
        except OSError:
            continue
    raise RuntimeError("no free ports on 127.0.0.1")
