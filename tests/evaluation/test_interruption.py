"""Evaluations that are stopped in the middle, by Ctrl-C and by kill -9, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from reference.reports import same

from sentax.evaluation import evaluate, read_report

FILE = Path(__file__).parent / "tiny.py"
DOMAIN, MODEL, CELLS = f"{FILE}:Tiny", f"{FILE}:model", 12


class Evaluation:
    """The command line in a process of its own, on cells that take a while."""

    def __init__(self, folder):
        self.folder, self.out, self.log = folder, folder / "out", folder / "log"

    def start(self, *options, seconds=0.5):
        command = [sys.executable, "-m", "sentax.cli", "evaluate", DOMAIN, "--model", MODEL, "--no-plots"]
        command += ["--method", "lcd", "--replicates", "2", "--out", str(self.out), *options]
        environment = os.environ | {"TINY_LOG": str(self.log), "TINY_SECONDS": str(seconds)}
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,  # not where a folder is called as the installed package
        )

    def files(self):
        return {file: file.read_bytes() for file in self.out.rglob("*-r*.json")}

    def begun(self):
        return self.log.read_text().split() if self.log.exists() else []

    def wait_for(self, count, process, seconds=120):
        """Until there are so many files."""
        deadline = time.monotonic() + seconds
        while len(self.files()) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def checked(self, before, num_begun_before, lost):
        """What is on disk after a stop: all that was there, and what was begun since, but for what was lost."""
        after = self.files()
        assert all(after[file] == content for file, content in before.items())
        for content in after.values():
            json.loads(content)
        begun = len(self.begun()) - num_begun_before
        assert 0 <= begun - (len(after) - len(before)) <= lost
        return after


def test_nothing_is_lost_and_nothing_is_done_twice(tmp_path):
    """Kill -9, then to the end: files and report are those of an evaluation that was never stopped."""
    evaluation = Evaluation(tmp_path)
    process = evaluation.start()
    evaluation.wait_for(4, process)
    process.kill()
    process.communicate()
    killed = evaluation.checked({}, 0, lost=1)
    assert 4 <= len(killed) < CELLS

    begun = len(evaluation.begun())
    process = evaluation.start(seconds=0)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    finished = evaluation.checked(killed, begun, lost=0)
    assert len(finished) == CELLS
    assert not list(evaluation.out.rglob(".*"))

    whole = tmp_path / "whole"
    evaluate(DOMAIN, ["lcd"], model=MODEL, out=whole, replicates=2)
    assert same(read_report(evaluation.out)) == same(read_report(whole))
    for file, content in finished.items():
        ours, theirs = json.loads(content), json.loads((whole / file.relative_to(evaluation.out)).read_text())
        assert ours.pop("times").keys() == theirs.pop("times").keys()
        assert ours == theirs


@pytest.mark.slow
def test_ctrl_c(tmp_path):
    """It is answered at once, not when the cell in hand is done."""
    evaluation = Evaluation(tmp_path)
    process = evaluation.start(seconds=60)
    while not evaluation.begun():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (
        errors == f"sentax: interrupted. What was done is in {evaluation.out}: give the same command to go on\n"
    )
    assert output == ""
    assert evaluation.checked({}, 0, lost=1) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_worker_processes_end_with_their_parent(tmp_path, stop, status):
    """At most the cell that each had in hand is lost, and nobody works on."""
    evaluation = Evaluation(tmp_path)
    process = evaluation.start("--workers", "2")
    evaluation.wait_for(3, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.send_signal(stop)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    evaluation.checked({}, 0, lost=2)
    num_begun = len(evaluation.begun())
    time.sleep(1.5)
    assert len(evaluation.begun()) == num_begun
