/* How often each token occurred in one sequence: a hash table with linear probing. */
#include "token_counts.h"

#include <string.h>

struct token_counts {
    struct token_count *place; /* [size], size a power of two */
    size_t size, used;
};

static int allocate(struct token_counts *c, size_t size, struct err *err)
{
    c->place = malloc(size * sizeof *c->place);
    if (!c->place) return err_set(err, ERR_NOMEM, "out of memory for token counts");
    for (size_t i = 0; i < size; i++) c->place[i] = (struct token_count){.id = -1};
    c->size = size;
    c->used = 0;
    return 0;
}

int token_counts_create(struct token_counts **out, struct err *err)
{
    *out = NULL;
    struct token_counts *c = calloc(1, sizeof *c);
    if (!c) return err_set(err, ERR_NOMEM, "out of memory for token counts");
    int rc = allocate(c, 256, err);
    if (rc) {
        free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void token_counts_destroy(struct token_counts *c)
{
    if (!c) return;
    free(c->place);
    free(c);
}

int token_counts_copy(struct token_counts **out, const struct token_counts *from, struct err *err)
{
    *out = NULL;
    struct token_counts *c = calloc(1, sizeof *c);
    if (!c) return err_set(err, ERR_NOMEM, "out of memory for token counts");
    int rc = allocate(c, from->size, err);
    if (rc) {
        free(c);
        return rc;
    }
    memcpy(c->place, from->place, from->size * sizeof *c->place);
    c->used = from->used;
    *out = c;
    return 0;
}

static struct token_count *find(const struct token_counts *c, int32_t id)
{
    size_t i = ((uint32_t)id * 2654435761u) & (c->size - 1);
    while (c->place[i].id != -1 && c->place[i].id != id) i = (i + 1) & (c->size - 1);
    return &c->place[i];
}

static int grow(struct token_counts *c, struct err *err)
{
    struct token_counts old = *c;
    int rc = allocate(c, old.size * 2, err);
    if (rc) {
        *c = old;
        return rc;
    }
    for (size_t i = 0; i < old.size; i++) {
        if (old.place[i].id == -1) continue;
        *find(c, old.place[i].id) = old.place[i];
        c->used++;
    }
    free(old.place);
    return 0;
}

int token_counts_add(struct token_counts *c, int32_t id, bool prompt, struct err *err)
{
    if (c->used * 2 >= c->size) {
        int rc = grow(c, err);
        if (rc) return rc;
    }
    struct token_count *t = find(c, id);
    if (t->id == -1) {
        t->id = id;
        c->used++;
    }
    ++*(prompt ? &t->prompt : &t->output);
    return 0;
}

void token_counts_remove(struct token_counts *c, int32_t id, bool prompt)
{
    struct token_count *t = find(c, id);
    REQUIRE(t->id == id && (prompt ? t->prompt : t->output) > 0);
    --*(prompt ? &t->prompt : &t->output);
}

bool token_counts_next(const struct token_counts *c, size_t *at, struct token_count *out)
{
    for (; c && *at < c->size; ++*at) {
        if (c->place[*at].id == -1 || c->place[*at].output + c->place[*at].prompt == 0) continue;
        *out = c->place[(*at)++];
        return true;
    }
    return false;
}
