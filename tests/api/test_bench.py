"""`hearth bench`: what its JSON says of speed, memory and single operators."""
import json
import os
import subprocess

from conftest import HEARTH


def bench(model, *options):
    command = [HEARTH, "bench", "-m", str(model), "--threads", "2", "-p", "48", "-n", "8", "--reps", "3", "--json", *options]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_load_and_memory(model):
    [line] = bench(model)
    assert "profile" not in line
    assert 0 < line["load_seconds"] < 60
    assert line["file_bytes"] == os.path.getsize(model)
    assert 0 < line["anonymous_bytes"] <= line["resident_bytes"] <= line["peak_bytes"]


def test_profile(model):
    one, four = bench(model, "--profile", "--batch", "1,4")
    assert (one["batch"], four["batch"]) == (1, 4)
    for part in (one["profile"]["prefill"], one["profile"]["decode"], four["profile"]["decode"]):
        rows = part["rows"]
        stages = {row["stage"]: row for row in rows if row["operator"] in ("matmul", "attention", "embed")}
        assert {"Q/K/V", "O", "gate/up", "down", "logits", "attention", "embedding"} <= set(stages)
        assert abs(sum(row["us"] for row in rows) + part["host_us"] - part["us"]) < 0.02 * part["us"]
        assert abs(sum(row["percent"] for row in rows) - 100 * (1 - part["host_us"] / part["us"])) < 2
        assert 0 <= part["waiting_us"] <= part["us"]
        for stage in ("Q/K/V", "O", "gate/up", "down", "logits", "attention"):
            assert stages[stage]["gbs"] > 0 and stages[stage]["gops"] > 0 and stages[stage]["bandwidth_percent"] > 0
    assert stages["gate/up"]["calls"] == stages["down"]["calls"] > 1 and stages["logits"]["calls"] == 1
