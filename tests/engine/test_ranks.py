"""Environments as torchrun, srun and batch scripts make them come in; each process must know its place."""

import pytest

from nemo_tabular.engine.ranks import ALONE, LOWEST_PORT, PORTS, Place, first_host, place
from nemo_tabular.errors import ConfigError

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "node3", "MASTER_PORT": "29501"}
BATCH = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "gpu[03-04]", "SLURM_PROCID": "0"}
SRUN = {
    **BATCH,
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu04,big[1-2]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}


def test_torchrun_says_it_all():
    assert place(TORCHRUN) == Place(5, 8, 1, ("node3", 29501))
    assert place(SRUN | TORCHRUN) == Place(5, 8, 1, ("node3", 29501)), "torchrun inside srun"


def test_srun_needs_no_variables_of_ours():
    port = LOWEST_PORT + (16 * 4711 + 2) % PORTS
    assert place(SRUN) == Place(3, 4, 1, ("gpu04", port))
    assert place(SRUN | {"SLURM_STEP_ID": "3"}).master != place(SRUN).master, "two steps at once would meet"
    assert place(SRUN | {"MASTER_ADDR": "ib-gpu04", "MASTER_PORT": "7"}).master == ("ib-gpu04", 7)


def test_one_process_is_alone():
    assert place({}) == ALONE
    assert place(BATCH) == ALONE, "a batch script's own process is no task of srun"
    one = SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert place(one) == ALONE


def test_half_of_torchruns_variables_is_an_error():
    with pytest.raises(
        ConfigError, match="has WORLD_SIZE but not RANK, MASTER_ADDR, MASTER_PORT: start with"
    ):
        place({"WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("localhost", "localhost"),
        ("a-7,b", "a-7"),
        ("gpu[01-04,07],big2", "gpu01"),
        ("r[3,5-6]n[2-9]", "r3n2"),
        ("n[12]-ib,x", "n12-ib"),
    ],
)
def test_first_host_of_a_node_list(nodes, host):
    assert first_host(nodes) == host
