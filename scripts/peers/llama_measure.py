"""Measures llama.cpp through the low-level interface of llama-cpp-python, in whose environment it runs:
compare_peers writes one JSON object a line (see the end of this file) and gets one back.

Its best settings: flash attention, repacked weights where llama.cpp has them, micro-batches of 512, one context
for one sequence and another one for many, no sampling while decoding."""
import ctypes
import json
import sys
import time

import llama_cpp as L

CHUNK = 2048
WARM_UP = 4  # decode steps that are not counted


class Context:
    """One llama.cpp context; sequence 0 remembers how many tokens are in its cache."""

    def __init__(self, model, threads, tokens, sequences=1):
        options = L.llama_context_default_params()
        options.n_ctx = tokens * sequences
        options.n_seq_max = sequences
        options.n_batch, options.n_ubatch = CHUNK, 512
        options.n_threads = options.n_threads_batch = threads
        options.flash_attn_type = 1
        self.handle = L.llama_init_from_model(model, options)
        if not self.handle:
            raise RuntimeError(f"no context of {tokens} tokens for {sequences} sequences")
        self.memory = L.llama_get_memory(self.handle)
        self.greedy = L.llama_sampler_init_greedy()
        self.batch = L.llama_batch_init(sequences, 0, 1)
        self.filled = 0

    def clear(self):
        L.llama_memory_clear(self.memory, True)
        self.filled = 0

    def cut(self, tokens):
        L.llama_memory_seq_rm(self.memory, -1, tokens, -1)
        self.filled = min(self.filled, tokens)

    def fill(self, tokens):
        """The cache holds exactly so many tokens afterwards."""
        self.cut(tokens)
        while self.filled < tokens:
            count = min(CHUNK, tokens - self.filled)
            ids = (L.llama_token * count)(*[((self.filled + i) * 7919 + 13) % 40000 + 100 for i in range(count)])
            self.decode(L.llama_batch_get_one(ids, count))
            self.filled += count
        L.llama_synchronize(self.handle)

    def decode(self, batch):
        if L.llama_decode(self.handle, batch) != 0:
            raise RuntimeError("llama_decode failed")

    def steps(self, count, sequences):
        """So many decode steps of one token for each sequence, after what is in the cache."""
        batch = self.batch
        batch.n_tokens = sequences
        for step in range(count):
            for i in range(sequences):
                batch.token[i] = (step * 7919 + i * 613 + 29) % 40000 + 100
                batch.pos[i], batch.n_seq_id[i], batch.logits[i] = self.filled + step, 1, 1
                batch.seq_id[i][0] = i
            self.decode(batch)
        L.llama_synchronize(self.handle)

    def free(self):
        L.llama_batch_free(self.batch)
        L.llama_sampler_free(self.greedy)
        L.llama_free(self.handle)


class Peer:
    def __init__(self, path, threads):
        self.path, self.threads = path, threads
        self.contexts = {}

    def load(self):
        """Seconds from nothing to the logits of one token."""
        began = time.perf_counter()
        L.llama_backend_init()
        self.model = L.llama_model_load_from_file(self.path.encode(), L.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {self.path}")
        first = Context(self.model, self.threads, 512)
        first.fill(1)
        self.first = first
        return time.perf_counter() - began

    def context(self, tokens, sequences):
        """A warm context with room for so many tokens; one at a time of each kind."""
        kind = sequences > 1
        have = self.contexts.get(kind)
        if not have or have[:2] != (tokens, sequences):
            if have:
                have[2].free()
            made = Context(self.model, self.threads, tokens, sequences)
            made.fill(32)
            made.clear()
            self.contexts[kind] = (tokens, sequences, made)
        return self.contexts[kind][2]

    def prefill(self, tokens, room):
        context = self.context(room, 1)
        context.clear()
        began = time.perf_counter()
        context.fill(tokens)
        L.llama_sampler_sample(context.greedy, context.handle, -1)
        return tokens / (time.perf_counter() - began)

    def decode(self, past, batch, steps, room):
        context = self.context(room, batch)
        if batch > 1:
            context.clear()
        context.fill(past)
        context.steps(WARM_UP, batch)
        context.cut(past)
        began = time.perf_counter()
        context.steps(steps, batch)
        tps = steps * batch / (time.perf_counter() - began)
        context.cut(past)
        return tps


def main():
    quiet = L.llama_log_callback(lambda *line: None)
    L.llama_log_set(quiet, ctypes.c_void_p(0))
    peer = Peer(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(L.llama_print_system_info().decode()), flush=True)
    for line in sys.stdin:
        question = json.loads(line)  # {"do": "load" | "prefill" | "decode", and the method's arguments}
        print(json.dumps(getattr(peer, question.pop("do"))(**question)), flush=True)


if __name__ == "__main__":
    main()
