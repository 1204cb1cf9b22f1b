/* Recorders: lists of commands in a ring, what of the device's memory they touch, and their way to the
 * backend. Recording only checks and appends; ranges are worked out when the host asks for memory. */
#include "commands.h"

#include <string.h>

#define ARENA_BYTES ((size_t)64 << 10)   /* of a new piece, at least */
#define ARENA_KEPT ((size_t)1 << 20)     /* larger pieces go back after their step */

struct piece {
    struct piece *next;
    size_t used, capacity;
    _Alignas(16) unsigned char data[];
};

/* EXAMINED: commands_run has run some, and nothing is in flight. */
enum state { FREE, RECORDED, SUBMITTED, EXAMINED };

struct commands {
    struct device *device;
    enum state state;
    uint64_t order;  /* of submission */
    uint64_t ticket; /* the backend's */
    struct command *list;
    int n, capacity;
    int layer;
    const char *stage;
    struct piece *arena; /* copies of uploaded data */
    struct err err;      /* the first failure while recording */
};

int commands_open(struct device *device, struct err *err)
{
    for (int i = 0; i < COMMANDS_IN_FLIGHT; i++) {
        struct commands *c = calloc(1, sizeof *c);
        if (!c)
            return err_set(err, ERR_NOMEM, "out of memory for a device");
        c->device = device;
        device->commands[i] = c;
    }
    return 0;
}

static void free_pieces(struct commands *c, size_t largest)
{
    struct piece **at = &c->arena;
    while (*at) {
        struct piece *p = *at;
        p->used = 0;
        if (p->capacity > largest) {
            *at = p->next;
            free(p);
        } else {
            at = &p->next;
        }
    }
}

void commands_close(struct device *device)
{
    for (int i = 0; i < COMMANDS_IN_FLIGHT && device->commands[i]; i++) {
        struct commands *c = device->commands[i];
        free_pieces(c, 0);
        free(c->list);
        free(c);
    }
}

struct commands *commands_begin(struct device *device)
{
    struct commands *c = NULL;
    for (int i = 0; i < COMMANDS_IN_FLIGHT && !c; i++)
        if (device->commands[i]->state == FREE)
            c = device->commands[i];
    REQUIRE(c);
    c->state = RECORDED;
    c->n = 0;
    c->layer = -1;
    c->stage = "";
    c->err.code = 0;
    return c;
}

static void release(struct commands *c)
{
    c->state = FREE;
    free_pieces(c, ARENA_KEPT);
}

void commands_drop(struct commands *c)
{
    REQUIRE(c->state == RECORDED || c->state == EXAMINED);
    release(c);
}

void commands_stage(struct commands *c, int layer, const char *stage)
{
    c->layer = layer;
    c->stage = stage;
}

/* ---- recording ---- */

/* The next command, zeroed but for its name; NULL after a failure. */
static struct command *append(struct commands *c)
{
    REQUIRE(c->state == RECORDED);
    if (c->err.code)
        return NULL;
    if (c->n == c->capacity) {
        int capacity = c->capacity ? 2 * c->capacity : 256;
        struct command *list = realloc(c->list, (size_t)capacity * sizeof *list);
        if (!list) {
            err_set(&c->err, ERR_NOMEM, "out of memory for commands");
            return NULL;
        }
        c->list = list;
        c->capacity = capacity;
    }
    struct command *command = &c->list[c->n];
    memset(command, 0, sizeof *command);
    command->layer = c->layer;
    command->stage = c->stage;
    return command;
}

static void record(struct commands *c, enum operator op, const void *args, size_t size,
                   struct buffer **buffers, int n)
{
    struct command *command = append(c);
    if (!command)
        return;
    command->op = op;
    memcpy(&command->args, args, size);
    memcpy(command->buffer, buffers, (size_t)n * sizeof *buffers);
    if (command_check(command, &c->err) == 0)
        c->n++;
}

#define PARAMETERS_2 struct buffer *b0, struct buffer *b1
#define PARAMETERS_3 PARAMETERS_2, struct buffer *b2
#define PARAMETERS_4 PARAMETERS_3, struct buffer *b3
#define PARAMETERS_5 PARAMETERS_4, struct buffer *b4
#define PARAMETERS_6 PARAMETERS_5, struct buffer *b5
#define PARAMETERS_7 PARAMETERS_6, struct buffer *b6
#define NAMES_2 b0, b1
#define NAMES_3 NAMES_2, b2
#define NAMES_4 NAMES_3, b3
#define NAMES_5 NAMES_4, b4
#define NAMES_6 NAMES_5, b5
#define NAMES_7 NAMES_6, b6
#define COUNT_OF(_1, _2, _3, _4, _5, _6, _7, n, ...) n
#define COUNT(...) COUNT_OF(__VA_ARGS__, 7, 6, 5, 4, 3, 2, 1, 0)
#define ENCODER(name, n) ENCODER_(name, n)
#define ENCODER_(name, n)                                                                        \
    void device_##name(struct commands *c, const struct name##_args *args, PARAMETERS_##n)      \
    {                                                                                            \
        record(c, OPERATOR_##name, args, sizeof *args, (struct buffer *[]){NAMES_##n}, n);       \
    }
#define OPERATOR(name, ...) ENCODER(name, COUNT(__VA_ARGS__))
#include "kernels.def"
#undef OPERATOR

/* Memory that stays where it is until the recorder is free again; NULL where there is none. */
static void *arena_take(struct commands *c, size_t bytes)
{
    struct piece *p = c->arena;
    if (bytes > SIZE_MAX - sizeof *p - 15)
        return NULL;
    bytes = (bytes + 15) / 16 * 16;
    while (p && p->capacity - p->used < bytes)
        p = p->next;
    if (!p) {
        size_t capacity = bytes > ARENA_BYTES ? bytes : ARENA_BYTES;
        p = malloc(sizeof *p + capacity);
        if (!p)
            return NULL;
        *p = (struct piece){.next = c->arena, .capacity = capacity};
        c->arena = p;
    }
    p->used += bytes;
    return p->data + p->used - bytes;
}

static struct command *append_copy(struct commands *c, struct buffer *b, size_t first, size_t count,
                                   const char *what)
{
    struct command *command = append(c);
    if (!command || count == 0)
        return NULL;
    if (b->rows) {
        err_set(&c->err, ERR_INVALID, "%s: a weight cannot be copied", what);
        return NULL;
    }
    if (first > b->count || count > b->count - first) {
        err_set(&c->err, ERR_INVALID, "%s: elements %zu to %zu of a buffer of %zu", what, first,
                first + count, b->count);
        return NULL;
    }
    if (first % dtype_block(b->dtype) || count % dtype_block(b->dtype)) {
        err_set(&c->err, ERR_INVALID, "%s: elements %zu to %zu are no whole blocks of %s", what, first,
                first + count, dtype_name(b->dtype));
        return NULL;
    }
    command->op = OPERATOR_COUNT;
    command->buffer[0] = b;
    command->first = first;
    command->count = count;
    return command;
}

void device_upload(struct commands *c, struct buffer *b, size_t first, size_t count, const void *data)
{
    struct command *command = append_copy(c, b, first, count, "upload");
    if (!command)
        return;
    size_t bytes = dtype_bytes(b->dtype, count);
    command->copy = COPY_IN;
    command->host = arena_take(c, bytes);
    if (!command->host) {
        err_set(&c->err, ERR_NOMEM, "out of memory for an upload of %zu bytes", bytes);
        return;
    }
    memcpy(command->host, data, bytes);
    c->n++;
}

void device_download(struct commands *c, struct buffer *b, size_t first, size_t count, void *out)
{
    struct command *command = append_copy(c, b, first, count, "download");
    if (!command)
        return;
    command->copy = COPY_OUT;
    command->host = out;
    c->n++;
}

/* ---- what is in flight ---- */

struct range {
    const struct buffer *root;
    size_t first, end; /* elements of the root */
    bool writes;       /* only what is written counts */
};

static const struct buffer *root_of(const struct buffer *b)
{
    return b->parent ? b->parent : b;
}

/* Elements [first, end) of b; end 0: all of it. */
static bool meets(const struct range *r, const struct buffer *b, size_t first, size_t end)
{
    end = end ? end : b->count;
    return root_of(b) == r->root && b->first + first < r->end && r->first < b->first + end;
}

static bool command_touches(const struct command *c, const struct range *r)
{
    if (c->copy != COPY_NONE)
        return (!r->writes || c->copy == COPY_IN) && meets(r, c->buffer[0], c->first, c->first + c->count);
    struct operand_span span[OPERATOR_MAX_BUFFERS];
    bool known = false;
    for (int i = 0; i < OPERATOR_MAX_BUFFERS; i++) {
        const struct buffer *b = c->buffer[i];
        enum access access = b ? operand_access(c->op, i) : ACCESS_NONE;
        bool written = access == ACCESS_OUT || access == ACCESS_INOUT || access == ACCESS_KVOUT;
        if (!b || root_of(b) != r->root || (r->writes && !written))
            continue;
        if (!known)
            command_spans(c, span);
        known = true;
        if (meets(r, b, span[i].first, span[i].end))
            return true;
    }
    return false;
}

static bool in_flight(const struct commands *c)
{
    return c->state == RECORDED || c->state == SUBMITTED;
}

bool commands_touch(const struct buffer *b, size_t first, size_t count, bool writes)
{
    struct range r = {root_of(b), b->first + first, b->first + first + count, writes};
    for (int i = 0; i < COMMANDS_IN_FLIGHT; i++) {
        const struct commands *c = b->device->commands[i];
        for (int k = 0; in_flight(c) && k < c->n; k++)
            if (command_touches(&c->list[k], &r))
                return true;
    }
    return false;
}

bool commands_use(const struct buffer *b)
{
    for (int i = 0; i < COMMANDS_IN_FLIGHT; i++) {
        const struct commands *c = b->device->commands[i];
        for (int k = 0; in_flight(c) && k < c->n; k++)
            for (int j = 0; j < OPERATOR_MAX_BUFFERS; j++)
                if (c->list[k].buffer[j] == b)
                    return true;
    }
    return false;
}

/* ---- running ---- */

int commands_submit(struct commands *c, struct err *err)
{
    REQUIRE(c->state == RECORDED);
    int rc = c->err.code;
    if (rc < 0 && err)
        *err = c->err;
    if (rc == 0)
        rc = c->device->backend->submit(c->device, c->list, c->n, false, &c->ticket, err);
    if (rc < 0) {
        release(c);
        return rc;
    }
    c->order = 0;
    for (int i = 0; i < COMMANDS_IN_FLIGHT; i++) {
        const struct commands *other = c->device->commands[i];
        if (other->state == SUBMITTED && other->order >= c->order)
            c->order = other->order + 1;
    }
    c->state = SUBMITTED;
    return 0;
}

int commands_wait(struct commands *c, struct err *err)
{
    REQUIRE(c->state == SUBMITTED);
    for (int i = 0; i < COMMANDS_IN_FLIGHT; i++) {
        const struct commands *other = c->device->commands[i];
        REQUIRE(other == c || other->state != SUBMITTED || other->order > c->order);
    }
    int rc = c->device->backend->wait(c->device, c->ticket, err);
    release(c);
    return rc;
}

int commands_run(struct commands *c, int first, int n, bool whole, struct err *err)
{
    REQUIRE(c->state == RECORDED || c->state == EXAMINED);
    REQUIRE(first >= 0 && n >= 0 && first <= c->n && n <= c->n - first);
    if (c->err.code) {
        if (err)
            *err = c->err;
        return c->err.code;
    }
    c->state = EXAMINED;
    if (n == 0)
        return 0;
    const struct backend *backend = c->device->backend;
    int rc = backend->submit(c->device, c->list + first, n, whole, &c->ticket, err);
    return rc < 0 ? rc : backend->wait(c->device, c->ticket, err);
}

/* ---- looking at what was recorded ---- */

int commands_count(const struct commands *c)
{
    return c->n;
}

void commands_info(const struct commands *c, int i, struct command_info *info)
{
    REQUIRE(i >= 0 && i < c->n);
    command_output(&c->list[i], info);
}
