"""The two programs that compare_peers measures: both take the same questions."""
import json
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


class Conversation:
    """A program that answers each line of JSON with one."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self.process.args)}: {self.process.communicate()[1][-2000:]}")
        return json.loads(line)

    def ask(self, question):
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self.answer()

    def memory(self):
        """Resident MB now and at most; 0 where the system does not say."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return 0, 0
        fields = dict(line.split(":", 1) for line in lines)
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))

    def close(self):
        self.process.communicate()


class Hearth:
    """One start of hearth for each shape."""

    def __init__(self, options, path):
        self.program, self.generate = options.hearth, options.generate
        self.common = ["-m", path, "--threads", options.threads]
        if options.isa:
            self.common += ["--isa", options.isa]
        self.bandwidth = {}  # context → % of what plain reading reaches

    def bench(self, *arguments):
        bench = Conversation([self.program, "bench", *self.common, "--reps", 1, "--json", *arguments])
        found = bench.answer()
        bench.close()
        return found

    def load(self):
        began = time.perf_counter()
        hearth = Conversation([self.program, "logprobs", *self.common, "--ctx", 512, "--top", 1])
        hearth.ask({"ids": [1000]})
        took = time.perf_counter() - began
        memory = hearth.memory()
        hearth.close()
        return {"load": took, "memory": memory[0], "peak": memory[1]}

    def prefill(self, tokens):
        return self.bench("-p", tokens, "-n", 0)["prefill_tps"]

    def decode(self, context, batch):
        """The prompt before it leaves real keys and values in the blocks that the context gets."""
        found = self.bench("-p", context, "-n", self.generate, "--context", context, "--batch", batch)
        if batch == 1:
            self.bandwidth.setdefault(context, []).append(found["bandwidth_percent"])
        return found["decode_tps"]


class Llama:
    """One process for all shapes of a round."""

    def __init__(self, options, path):
        self.options = options
        self.process = Conversation([options.peer_python, FOLDER / "llama_measure.py", path, options.threads])
        self.system = self.process.answer()

    def load(self):
        before = self.process.memory()[0]
        took = self.process.ask({"do": "load"})
        memory = [value - before for value in self.process.memory()]
        return {"load": took, "memory": memory[0], "peak": memory[1]}

    def room(self):
        return max([0, *self.options.prompts, *self.options.contexts]) + self.options.generate + 64

    def prefill(self, tokens):
        return self.process.ask({"do": "prefill", "tokens": tokens, "room": self.room()})

    def decode(self, context, batch):
        room = self.room() if batch == 1 else self.options.generate + 64
        return self.process.ask({"do": "decode", "past": context, "batch": batch, "room": room,
                                 "steps": self.options.generate})
