"""The real models against an independent float32 implementation: token ids, rendered templates,
log-probabilities and greedy choices. Needs HEARTH (the binary) and HEARTH_MODELS (a folder with
NAME.gguf, or catalogue names where unset)."""
import json
import math
import os
import subprocess
from pathlib import Path

import pytest

HEARTH = os.environ["HEARTH"]
DATA = Path(__file__).parent / "data"
MODELS = ["qwen2.5-coder-0.5b", "smollm2-135m"]


def golden(model, kind):
    return [json.loads(line) for line in (DATA / f"{model}.{kind}.jsonl").open()]


def hearth(command, model, rows, *options):
    """Runs a JSON-lines subcommand; one answer per row."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    done = subprocess.run([HEARTH, command, "-m", model, *options], input=lines, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(rows)
    return answers


@pytest.mark.parametrize("model", MODELS)
def test_tokens(model):
    rows = golden(model, "tokens")
    texts = [row["text"] for row in rows]
    assert hearth("tokenize", model, texts) == [row["ids"] for row in rows]
    assert hearth("tokenize", model, texts, "--plain") == [row["ids_without_special"] for row in rows]


@pytest.mark.parametrize("model", MODELS)
def test_chat(model):
    rows = golden(model, "chat")
    inputs = [{k: row[k] for k in ("messages", "tools", "add_generation_prompt") if k in row} for row in rows]
    assert hearth("render", model, inputs) == [row["rendered"] for row in rows]
    assert hearth("render", model, inputs, "--ids") == [row["ids"] for row in rows]


def rest(logprobs):
    return max(1e-12, 1 - sum(math.exp(x) for x in logprobs))


def divergence(p, q):
    """KL(p || q) over the given tokens, everything else as one."""
    kl = sum(math.exp(a) * (a - b) for a, b in zip(p, q))
    return kl + rest(p) * (math.log(rest(p)) - math.log(rest(q)))


#          device       difference of the next token's log-probability, KL, top-1 agreement
BOUNDS = {("cpu", "qwen2.5-coder-0.5b"): (0.045, 0.003, 0.97),
          ("cpu", "smollm2-135m"): (0.05, 0.003, 0.97),
          ("reference", "qwen2.5-coder-0.5b"): (0.002, 0.0001, 0.99),
          ("reference", "smollm2-135m"): (0.002, 0.0001, 0.99)}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_logprobs(model, device):
    rows = golden(model, "logprobs")
    inputs = [{"ids": row["ids"], "want": [p["top_ids"] for p in row["positions"]]} for row in rows]
    answers = hearth("logprobs", model, inputs, "--top", "1", "--device", device)
    difference, kl, same = [], [], []
    for row, answer in zip(rows, answers):
        assert answer["logprobs"][0] is None
        for i, position in enumerate(row["positions"]):
            kl.append(divergence(position["top_logprobs"], answer["want_logprobs"][i]))
            same.append(answer["top_ids"][i][0] == position["top_ids"][0])
            if i + 1 < len(row["ids"]):
                difference.append(abs(answer["logprobs"][i + 1] - position["next_logprob"]))
    mean = lambda values: sum(values) / len(values)
    print(f"\n{model} on {device}: {len(kl)} positions, next-token log-probability differs by {mean(difference):.4f} "
          f"nat, KL {mean(kl):.5f}, top-1 agreement {100 * mean(same):.1f} %")
    assert mean(difference) <= BOUNDS[device, model][0]
    assert mean(kl) <= BOUNDS[device, model][1]
    assert mean(same) >= BOUNDS[device, model][2]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("device,margin", [("cpu", 0.3), ("reference", 0.02)])
def test_greedy(model, device, margin):
    rows = golden(model, "greedy")
    inputs = [{"ids": row["prompt_ids"] + row["ids"]} for row in rows]
    answers = hearth("logprobs", model, inputs, "--top", "1", "--device", device)
    for row, answer in zip(rows, answers):
        first = len(row["prompt_ids"]) - 1
        for step, (token, gap) in enumerate(zip(row["ids"], row["margins"])):
            if gap >= margin:
                assert answer["top_ids"][first + step][0] == token, (row["prompt"], step, gap)
