"""The preflight on processes that take themselves for nodes, and its verdict on facts that do not fit."""

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from nemo_tabular.slurm.preflight import Facts, faults, line

GOOD = Facts("n1", {"python": "3.11", "torch": "2.11"}, ["H100"] * 8, 8, [], 1000.0)


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (replace(GOOD, gpus=["H100"] * 7), "node n2: 7 of 8 GPUs work"),
        (replace(GOOD, gpus=["A100"] * 8), "node n2: GPUs 8 A100, on n1 8 H100"),
        (replace(GOOD, clock=1009.5), "node n2: its clock is +9.5 s from that of n1"),
        (replace(GOOD, folder_faults=["cannot write to /x"]), "node n2: cannot write to /x"),
        (replace(GOOD, versions={"python": "3.11", "torch": "2.12"}), "node n2: torch 2.12, on n1 2.11"),
        (replace(GOOD, versions={"python": "3.11"}), "node n2: torch missing, on n1 2.11"),
    ],
)
def test_a_node_that_differs_is_named(other, complaint):
    found = faults([GOOD, replace(other, node="n2"), replace(GOOD, node="n3")])
    assert complaint in found[0] and not any("n3" in fault for fault in found)


def test_nodes_that_agree_are_told_a_line_each():
    second = replace(GOOD, node="n2", clock=1000.4)
    assert faults([GOOD, second]) == []
    assert (
        line(second, GOOD)
        == "n2 is fit: 8 GPUs (H100); folder shared; clock +0.40 s; python 3.11, torch 2.11"
    )


def start(folders, **more: str) -> list[subprocess.Popen[str]]:
    """A process for each folder, as srun would start it on a node of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "SLURM_JOB_ID": "1", **more}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "nemo_tabular.cli", "preflight", str(folder)],
            env={**os.environ, **common, "SLURM_NODEID": str(n), "SLURMD_NODENAME": f"n{n}",
                 "SLURM_STEP_NUM_NODES": more.get("SLURM_STEP_NUM_NODES", str(len(folders)))},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for n, folder in enumerate(folders)
    ]  # fmt: skip


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    return [(p.returncode, out + err) for p in processes for out, err in [p.communicate(timeout=100)]]


def test_nodes_that_share_a_folder_pass_and_leave_nothing_in_it(tmp_path):
    ended = finish(start([tmp_path, tmp_path]))
    assert [code for code, _ in ended] == [0, 0]
    assert "n0 is fit: no GPUs; folder shared" in ended[0][1] and "n1 is fit: no GPUs" in ended[0][1]
    assert ended[1][1] == "" and list(tmp_path.iterdir()) == []


def test_folders_that_only_look_the_same_are_found_out(tmp_path):
    (code, said), _ = finish(start([tmp_path / "a", tmp_path / "b"], NEMO_TABULAR_PREFLIGHT_SEEN="1"))
    assert code == 2
    assert f"node n0: {tmp_path}/a is not the same folder as on n1" in said
    assert f"node n1: {tmp_path}/b is not the same folder as on n0" in said


def test_a_node_that_never_comes_and_one_that_is_not_reached_are_told(tmp_path):
    ((code, said),) = finish(start([tmp_path], SLURM_STEP_NUM_NODES="2", NEMO_TABULAR_PREFLIGHT_SECONDS="1"))
    assert code == 2 and "node number 1 was not heard of for 1 s" in said
    alone = start([tmp_path, tmp_path], NEMO_TABULAR_PREFLIGHT_SECONDS="1", SLURM_STEP_NUM_NODES="2")
    alone[0].kill()
    _, (code, said) = finish(alone)
    assert code == 2 and "Traceback" not in said and ("does not reach" in said or "not heard of" in said)
