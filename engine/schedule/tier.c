/* Fetching, saving, and the root of all keys. */
#include "tier.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "../log.h"
#include "explain.h"
#include "runner_private.h"

enum {
    SAVE_TOKENS = 256,    /* shorter texts are computed again as fast */
    PORTION = 32 << 20,   /* bytes fetched before one step: tens of milliseconds */
    PROBE_TOKENS = BLOCK_TOKENS / 2,
};
#define READ_RATE 500e6   /* bytes per second, until it is measured */
#define HELD_UP 4         /* times as long as usual: more is not the disk's doing, and counts as that */
#define SAVE_AGAIN 0.01   /* seconds, when the store's queue is full */
#define SAVE_SECONDS 0.1  /* from one block that is saved between steps to the next */
#define FLUSH_SECONDS 10.0

/* ---- the root ---- */

struct prefix_key tier_digest(const struct gguf *g)
{
    struct prefix_key key = {0, 0};
    double began = clock_seconds();
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor(g, i);
        key = prefix_root_behind(key, t->name.bytes, t->name.length);
        key = prefix_root_behind(key, t->shape, sizeof t->shape);
        key = prefix_root_behind(key, dtype_name(t->dtype), strlen(dtype_name(t->dtype)));
        key = prefix_root_behind(key, t->data, t->bytes);
        gguf_release(g, t->data, t->bytes);
    }
    log_debug("prefix keys: digest of the tensors in %.2f s", clock_seconds() - began);
    return key;
}

static int probe_rows(struct runner *r, const struct kv_table *t, int first, int rows, struct err *err)
{
    struct batch b;
    int32_t token[PROBE_TOKENS];
    for (int i = 0; i < rows; i++) token[i] = (int32_t)((first + i) * 7919 % r->facts.hyper->vocab);
    step_room_begin(r, &b);
    step_room_rows(r, &b, t, 0, token, first, rows);
    return forward_step(r->forward, &b, NULL, err);
}

/* What this device and these kernels make of a few tokens, several at a time and one alone: kernels that
 * compute something else get other keys. The block is nobody's yet. */
static int probe(struct runner *r, struct prefix_key *key, struct err *err)
{
    int32_t block = 0;
    struct kv_table t = {.block = &block, .n = 1, .capacity = 1};
    int rc = probe_rows(r, &t, 0, PROBE_TOKENS - 1, err);
    if (!rc) rc = probe_rows(r, &t, PROBE_TOKENS - 1, 1, err);
    if (!rc) rc = forward_block_read(r->forward, block, r->tier.block, err);
    if (!rc) *key = prefix_root_behind(*key, r->tier.block, r->tier.block_bytes);
    return rc;
}

/* Keys that outlive the process stand for the very weights and kernels; else the model is known. */
static int make_root(struct runner *r, const struct prefix_key *digest, struct err *err)
{
    const struct hyperparameters *h = r->facts.hyper;
    const struct device_info *device = device_info(r->device);
    char text[640];
    int n = snprintf(text, sizeof text,
                     "hearth %s, blocks of %d; %s %d layers, %d wide, heads %d %d of %d, ff %d, eps %a; "
                     "rope %d %d base %a scale %a yarn %a %a %a magnitude %a; norm %d bias %d; "
                     "kv %s; %s, %.*s, int8 rows %d; no adapter",
                     HEARTH_VERSION, BLOCK_TOKENS, h->architecture, h->n_layers, h->width, h->n_heads,
                     h->n_kv_heads, h->head_dim, h->ff_width, (double)h->rms_eps, h->rope_dim, h->rope_style,
                     (double)h->rope_base, (double)h->rope_scale, (double)h->yarn_ext, (double)h->yarn_low,
                     (double)h->yarn_high, (double)h->rope_magnitude, h->qk_norm, h->qkv_bias,
                     dtype_name(device->kv_type), device->name, (int)strcspn(device->description, ","),
                     device->description, device->int8_rows);
    REQUIRE(n > 0 && (size_t)n < sizeof text);
    r->facts.limits.root = prefix_root(text, (size_t)n);
    if (!r->tier.store) return 0;
    double began = clock_seconds();
    r->facts.limits.root = prefix_root_behind(r->facts.limits.root, digest, sizeof *digest);
    int rc = probe(r, &r->facts.limits.root, err);
    log_debug("prefix keys: %s; probe %.2f s", text, clock_seconds() - began);
    return rc;
}

int tier_create(struct runner *r, struct store *store, const struct prefix_key *digest, const char *model,
                struct err *err)
{
    struct tier *t = &r->tier;
    t->store = store;
    t->block_bytes = forward_kv_block_bytes(r->device, r->facts.hyper, BLOCK_TOKENS);
    t->read_time = (double)t->block_bytes / READ_RATE;
    if (store) {
        t->model = strdup(model);
        t->block = malloc(t->block_bytes);
        if (!t->model || !t->block) return err_set(err, ERR_NOMEM, "out of memory for the prefix cache");
        int rc = kv_table_create(&t->table, r->kv, r->facts.limits.context, err);
        if (rc) return rc;
    }
    return make_root(r, digest, err);
}

/* ---- fetching ---- */

/* How many blocks the store has behind those of the table. */
static int count_stored(const struct runner *r, const struct task *task, int n_tokens)
{
    const struct tier *t = &r->tier;
    struct prefix_key key = t->table.key;
    int i = t->table.n;
    for (; (i + 1) * BLOCK_TOKENS <= n_tokens; i++) {
        struct prefix_key next = prefix_extend(key, task->tokens + i * BLOCK_TOKENS, BLOCK_TOKENS);
        if (!store_has(t->store, key, next)) break;
        key = next;
    }
    return i - t->table.n;
}

/* Whether reading takes less than computing would, as far as that is known. */
static bool is_worth_it(const struct runner *r)
{
    static const struct pace_work block = {.rows = BLOCK_TOKENS};
    double computing = pace_step(&r->pace, &block);
    return computing == 0 || r->tier.read_time < computing;
}

static bool fetch_block(struct runner *r, const struct task *task)
{
    struct tier *t = &r->tier;
    struct kv_copies none = {0};
    struct err err;
    double began = clock_seconds();
    int first = t->table.n * BLOCK_TOKENS;
    const int32_t *tokens = task->tokens + first;
    struct store_block b = {
        .parent = t->table.key,
        .key = prefix_extend(t->table.key, tokens, BLOCK_TOKENS),
        .tokens = tokens, .n_tokens = BLOCK_TOKENS, .position = t->table.n,
        .bytes = t->block_bytes, .model = t->model,
    };
    if (kv_blocks_free(r->kv) == 0 || store_read(t->store, &b, t->block, &err)) return false;
    kv_table_extend(&t->table, r->kv, first, BLOCK_TOKENS, &none);
    int32_t block = t->table.block[t->table.n - 1];
    if (forward_block_write(r->forward, block, t->block, &err)) {
        log_warning("prefix cache: %s", err.text);
        return false;
    }
    kv_table_publish(&t->table, r->kv, task->tokens, first + BLOCK_TOKENS);
    prefix_mark_saved(kv_blocks_index(r->kv), block, true);
    double took = clock_seconds() - began, most = HELD_UP * t->read_time;
    t->read_time += ((took < most ? took : most) - t->read_time) / 8;
    return true;
}

/* The last block that was found counts as used, and those before it with it. One that the store has lost is
 * saved again. */
static void touch(struct runner *r)
{
    struct tier *t = &r->tier;
    struct prefix_index *index = kv_blocks_index(r->kv);
    if (t->table.n_keyed == 0) return;
    int32_t block = t->table.block[t->table.n_keyed - 1];
    struct prefix_entry e = prefix_entry(index, block);
    if (e.saved && !store_touch(t->store, e.parent, e.key)) prefix_mark_saved(index, block, false);
}

/* Fetches what the store has of the task's text and memory has not. False: there is more to come. */
static bool fetch(struct runner *r, const struct task *task)
{
    struct tier *t = &r->tier;
    int idle, n = task->n_tokens - 1; /* the last token is computed in any case */
    kv_table_root(&t->table, task->kv.root, task->kv.owner);
    kv_table_adopt(&t->table, r->kv, task->tokens, kv_table_find(&t->table, r->kv, task->tokens, n, &idle));
    int stored = is_worth_it(r) ? count_stored(r, task, n) : 0;
    bool more = stored > 0 && r->n_records > 0; /* steps under way may hold the blocks that are free by now */
    while (!more && stored > 0) {
        more = t->left-- <= 0;
        if (!more && !fetch_block(r, task)) break;
        stored--;
    }
    touch(r);
    kv_table_clear(&t->table, r->kv);
    return !more;
}

bool tier_ready(void *runner, struct task *task)
{
    struct runner *r = runner;
    struct sequence *s = (struct sequence *)task;
    struct request *q = s->request;
    if (q->admitted > 0 || !task->finds || task->n_computed > 0) return true;
    if (r->tier.store && !s->fetched) s->fetched = fetch(r, task);
    r->tier.fetching |= r->tier.store && !s->fetched;
    if (r->tier.fetching) return false;
    if (q->explains) {
        explain_look(&q->explain, kv_blocks_index(r->kv), BLOCK_TOKENS, &task->kv, q->prompt, q->n_prompt);
    }
    return true;
}

/* ---- saving ---- */

/* The first block of the chain that is not saved: what is cut short must have its beginning. */
static int32_t first_unsaved(const struct prefix_index *index, int32_t block)
{
    for (;;) {
        int32_t before = prefix_find_key(index, prefix_entry(index, block).parent);
        if (before < 0 || prefix_entry(index, before).saved) return block;
        block = before;
    }
}

static int32_t find_unsaved(struct runner *r)
{
    const struct prefix_index *index = kv_blocks_index(r->kv);
    int32_t total = kv_blocks_total(r->kv);
    for (int32_t i = 0; i < total; i++) {
        int32_t block = (r->tier.cursor + i) % total;
        if (!prefix_holds(index, block)) continue;
        struct prefix_entry e = prefix_entry(index, block);
        if (e.saved || e.position < SAVE_TOKENS / BLOCK_TOKENS - 1) continue;
        r->tier.cursor = block;
        return first_unsaved(index, block);
    }
    return -1;
}

double tier_save(struct runner *r)
{
    struct tier *t = &r->tier;
    if (!t->store || store_failed(t->store)) return -1;
    int32_t block = find_unsaved(r);
    if (block < 0) return -1;
    struct prefix_index *index = kv_blocks_index(r->kv);
    struct prefix_entry e = prefix_entry(index, block);
    if (!store_has(t->store, e.parent, e.key)) {
        struct err err;
        void *room = store_room(t->store, t->block_bytes);
        if (!room) return SAVE_AGAIN;
        if (forward_block_read(r->forward, block, room, &err)) {
            log_warning("prefix cache: %s", err.text);
            free(room);
        } else {
            struct store_block b = {
                .parent = e.parent, .key = e.key,
                .tokens = e.tokens, .n_tokens = BLOCK_TOKENS, .position = e.position,
                .bytes = t->block_bytes, .model = t->model,
            };
            store_write(t->store, &b, room);
        }
    }
    prefix_mark_saved(index, block, true);
    return 0;
}

/* ---- around steps ---- */

bool tier_begin(struct runner *r)
{
    struct tier *t = &r->tier;
    bool waits = t->fetching;
    t->fetching = false;
    t->left = t->store ? 1 + PORTION / (int)t->block_bytes : 0;
    t->due = t->store && clock_seconds() - t->saved >= SAVE_SECONDS && find_unsaved(r) >= 0;
    return waits || t->due;
}

void tier_save_between(struct runner *r)
{
    struct tier *t = &r->tier;
    if (!t->due) return;
    tier_save(r);
    t->saved = clock_seconds();
}

void tier_destroy(struct runner *r)
{
    struct tier *t = &r->tier;
    double until = clock_seconds() + FLUSH_SECONDS, wait;
    while (t->block && r->kv && (wait = tier_save(r)) >= 0 && clock_seconds() < until) {
        struct timespec pause = {0, (long)(wait * 1e9)};
        nanosleep(&pause, NULL);
    }
    if (t->table.block) kv_table_destroy(&t->table);
    free(t->block);
    free(t->model);
}
