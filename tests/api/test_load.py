"""scripts/load with small numbers: what it promises of crowds, leavers and slow readers holds."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import BACKENDS, HEARTH

LOAD = Path(__file__).parents[2] / "scripts" / "load"
LONG = os.environ.get("HEARTH_TEST_LONG") == "1"


def load(model, command, *options):
    done = subprocess.run([sys.executable, LOAD, command, "-m", str(model), "--hearth", HEARTH, "--threads", "2",
                           *map(str, options)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_are_connected_at_once(model, backend):
    crowd = {"epoll": 2000, "select": 900}[backend] if LONG else 150
    load(model, "connected", "--clients", crowd, "--tokens", 2, "--backend", backend)


def test_many_leave(model):
    load(model, "cancels", "--rate", 1000 if LONG else 100, "--seconds", 60 if LONG else 4)


def test_who_reads_is_not_held_up(model):
    load(model, "slow-reader", "--tokens", 30)


def test_a_crowd_is_answered(model):
    assert "time to the first token" in load(model, "eight", "--words", 20, "--tokens", 8)


def test_a_long_prompt_among_streams(model):
    assert "% lost" in load(model, "long-prompt", "--words", 600, "--alone", 0.3, "--stream-tokens", 3000)


def test_churn(model):
    """HEARTH_TEST_LONG=1 (scripts/test --long) makes it two hours."""
    load(model, "churn", "--seconds", 7200 if LONG else 12, "--clients", 6)
