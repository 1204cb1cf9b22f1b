/* LoRA adapters (arXiv:2106.09685) in GGUF files, as llama.cpp's convert_lora_to_gguf.py writes them. Where a weight
 * W gives W x, an adapter with A [rank][in] and B [out][rank] makes of it W x + scale · (alpha / rank) · B (A x). The
 * scale is each row's own. */
#ifndef HEARTH_ADAPTER_H
#define HEARTH_ADAPTER_H

#include "gguf.h"

#define ADAPTERS_MAX 16   /* of one model */
#define ADAPTER_RANK_MAX 4096

/* The weights of a layer that can have one; and the output's, of the whole model. */
enum adapted {
    ADAPTED_Q, ADAPTED_K, ADAPTED_V, ADAPTED_ATTN_OUT, ADAPTED_GATE, ADAPTED_UP, ADAPTED_DOWN, ADAPTED_COUNT
};

struct adapter_pair {
    struct buffer *a, *b; /* [rank][in], [out][rank]; NULL where the weight stays as it is */
    int rank;
    float factor;         /* alpha / rank */
};

struct adapter;
/* Checks a file against the model it is for. *out is the caller's; both files stay open until adapter_free.
 * ERR_FORMAT, ERR_UNSUPPORTED name key or tensor. */
int adapter_read(struct adapter **out, struct gguf *file, const struct gguf *model, struct err *) WARN_UNUSED;
/* Puts it on the device. */
int adapter_load(struct adapter *, struct device *, struct err *) WARN_UNUSED;
void adapter_unload(struct adapter *); /* from the device: before it is closed */
void adapter_free(struct adapter *);   /* the rest; NULL is fine */
size_t adapter_bytes(const struct adapter *, const struct device *); /* what its weights take there */
int adapter_rank(const struct adapter *);                            /* the largest */
double adapter_alpha(const struct adapter *);
bool adapter_has_output(const struct adapter *);
/* layer -1: the output. */
const struct adapter_pair *adapter_pair(const struct adapter *, int layer, enum adapted);

#endif
