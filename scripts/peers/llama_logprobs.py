"""llama.cpp's log-probabilities for compare_peers --accuracy: one JSON line of token ids in, one line of answers out,
in the form of `hearth logprobs`."""
import ctypes
import json
import sys

import llama_cpp as L
import numpy as np


def logprobs(model, ids):
    """[position][token of the vocabulary]"""
    options = L.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 512
    context = L.llama_init_from_model(model, options)
    batch = L.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    if L.llama_decode(context, batch) != 0:
        raise RuntimeError("llama_decode failed")
    vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    logits = np.ctypeslib.as_array(L.llama_get_logits(context), shape=(len(ids), vocab)).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    L.llama_batch_free(batch)
    L.llama_free(context)
    return logits


def main():
    quiet = L.llama_log_callback(lambda *line: None)
    L.llama_log_set(quiet, ctypes.c_void_p(0))
    L.llama_backend_init()
    model = L.llama_model_load_from_file(sys.argv[1].encode(), L.llama_model_default_params())
    for line in sys.stdin:
        row = json.loads(line)
        found = logprobs(model, row["ids"])
        print(json.dumps({"logprobs": [None] + [float(found[i, t]) for i, t in enumerate(row["ids"][1:])],
                          "want_logprobs": [[float(found[i, t]) for t in want] for i, want in enumerate(row["want"])],
                          "top_ids": [[int(t)] for t in found.argmax(axis=1)]}))


if __name__ == "__main__":
    main()
