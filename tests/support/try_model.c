/* One step of a model that may be anything. */
#include "try_model.h"

#include "../../engine/model/forward.h"

/* Two rows; weights of every shape are read once. */
static int run_step(struct device *device, const struct weights *weights, struct err *err)
{
    const struct hyperparameters *hp = weights_hyperparameters(weights);
    struct forward_options options = {.max_rows = 2, .max_outputs = 1, .max_sequences = 1, .block_tokens = 16,
                                      .n_blocks = 1, .max_context = 16};
    static const int32_t position[] = {0, 1}, sequence[] = {0, 0}, table[] = {0}, output[] = {1};
    int32_t token[] = {0, hp->vocab - 1};
    struct batch batch = {.n_rows = 2, .token = token, .position = position, .sequence = sequence,
                          .slot = position, .n_sequences = 1, .table = table, .n_outputs = 1,
                          .output = output};
    struct forward *forward = NULL;
    float *logits = malloc((size_t)hp->vocab * sizeof *logits);
    int rc = logits ? forward_create(&forward, device, weights, &options, err)
                    : err_set(err, ERR_NOMEM, "no memory for logits");
    if (rc == 0)
        rc = forward_step(forward, &batch, logits, err);
    forward_destroy(forward);
    free(logits);
    return rc;
}

enum try_result try_model(struct device *device, const void *bytes, size_t size, struct err *err)
{
    struct gguf *g = NULL;
    struct weights *weights = NULL;
    *err = (struct err){0};
    int rc = gguf_open_memory(&g, bytes, size, err);
    if (rc == 0)
        rc = weights_load(&weights, device, g, err);
    if (rc == 0)
        rc = run_step(device, weights, err);
    weights_free(weights);
    gguf_close(g);
    REQUIRE(rc == 0 || (err->code == rc && err->text[0]));
    return rc ? TRY_REFUSED : TRY_RAN;
}
