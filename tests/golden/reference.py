"""The reference data of an independent float32 implementation, and how answers are held against it."""
import json
import math
import os
import subprocess
from pathlib import Path

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


def rest(logprobs):
    return max(1e-12, 1 - sum(math.exp(x) for x in logprobs))


def divergence(p, q):
    """KL(p || q) over the given tokens, everything else as one."""
    kl = sum(math.exp(a) * (a - b) for a, b in zip(p, q))
    return kl + rest(p) * (math.log(rest(p)) - math.log(rest(q)))


def compare(rows, answers):
    """Mean difference of the next token's log-probability, mean KL, share of equal most likely tokens."""
    difference, kl, same = [], [], []
    for row, answer in zip(rows, answers):
        assert answer["logprobs"][0] is None
        for i, position in enumerate(row["positions"]):
            kl.append(divergence(position["top_logprobs"], answer["want_logprobs"][i]))
            same.append(answer["top_ids"][i][0] == position["top_ids"][0])
            if i + 1 < len(row["ids"]):
                difference.append(abs(answer["logprobs"][i + 1] - position["next_logprob"]))
    return [sum(values) / len(values) for values in (difference, kl, same)]
