/* A run of dispatches that comes again is replayed as a graph: a decode step has a hundred small kernels,
 * and launching each from the host takes longer than running it.
 *
 * A run is known by the hash of all that its launches depend on: kernels, grids, arguments and the
 * addresses of operands. What changes from step to step lies in buffers, so a step of the same shape has
 * the same hash. Small copies are part of it, done by kernels: between two graphs a copy of the stream takes
 * as long as ten kernels. Their addresses are those of the list's page-locked memory. A graph holds
 * addresses, not allocations: one whose memory was freed is only ever replayed when the same addresses were
 * given out again and asked for. */
#include <string.h>
#include <xxhash.h>

#include "driver.h"

struct key_head {
    uint32_t program, weight, grid[3], n_operands, args_bytes, overlaps;
};
#define KEY_BYTES (sizeof(struct key_head) + GPU_MAX_ARGS + GPU_MAX_OPERANDS * sizeof(uint64_t))

/* The bytes that one dispatch depends on, put at `out`; how many. */
static size_t put_key(const struct gpu_step *step, unsigned char *out)
{
    struct key_head head = {
        .program = step->program,
        .weight = gpu_programs[step->program].typed ? step->weight : 0,
        .grid = {step->grid[0], step->grid[1], step->grid[2]},
        .n_operands = step->n_operands,
        .args_bytes = step->args_bytes,
        .overlaps = step->overlaps,
    };
    unsigned char *at = out;
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    memcpy(at, step->args, step->args_bytes);
    at += step->args_bytes;
    for (uint32_t i = 0; i < step->n_operands; i++) {
        const struct gpu_operand *operand = &step->operand[i];
        uint64_t address = operand->memory ? operand->memory->address + operand->offset : 0;
        memcpy(at, &address, sizeof address);
        at += sizeof address;
    }
    return (size_t)(at - out);
}

static bool hash_run(struct cuda *c, struct cuda_steps steps, uint64_t *hash)
{
    size_t most = (size_t)steps.n * KEY_BYTES, bytes = 0;
    struct cuda_made made;
    if (most > c->key_bytes) {
        unsigned char *key = realloc(c->key, most);
        if (!key)
            return false;
        c->key = key;
        c->key_bytes = most;
    }
    while (steps.n > 0)
        bytes += put_key(cuda_next_step(&steps, &made), c->key + bytes);
    XXH128_hash_t h = XXH3_128bits(c->key, bytes);
    hash[0] = h.low64;
    hash[1] = h.high64;
    return true;
}

static void drop(struct cuda *c, struct cuda_run *run)
{
    if (run->executable) {
        c->api.stream_wait(c->stream); /* it may be running */
        c->api.executable_destroy(run->executable);
        c->graphs--;
    }
    *run = (struct cuda_run){0};
}

/* The least recently used run, with a graph or of any kind. */
static struct cuda_run *oldest(struct cuda *c, bool graphs)
{
    struct cuda_run *best = NULL;
    for (int i = 0; i < CUDA_RUNS; i++) {
        struct cuda_run *run = &c->run[i];
        if ((!graphs || run->executable) && (!best || run->used < best->used))
            best = run;
    }
    return best;
}

static struct cuda_run *find(struct cuda *c, const uint64_t *hash)
{
    for (int i = 0; i < CUDA_RUNS; i++) {
        struct cuda_run *run = &c->run[i];
        if (run->used && run->hash[0] == hash[0] && run->hash[1] == hash[1])
            return run;
    }
    return NULL;
}

static int launch_all(struct cuda *c, struct cuda_steps steps, struct err *err)
{
    struct cuda_made made;
    int rc = 0;
    for (bool after = false; steps.n > 0 && rc == 0; after = true)
        rc = cuda_launch_step(c, cuda_next_step(&steps, &made), after, err);
    return rc;
}

/* The launches recorded as a graph; NULL where the driver does not, and then nothing was launched. */
static struct cuda_executable *capture(struct cuda *c, struct cuda_steps steps)
{
    struct cuda_graph *graph = NULL;
    struct cuda_executable *executable = NULL;
    if (c->api.capture_begin(c->stream, CUDA_CAPTURE_THREAD_LOCAL) != 0)
        return NULL;
    c->capturing = true;
    int rc = launch_all(c, steps, NULL);
    c->capturing = false;
    int error = c->api.capture_end(c->stream, &graph);
    if (rc == 0 && error == 0 && graph && c->api.graph_instantiate(&executable, graph, 0) != 0)
        executable = NULL;
    if (graph)
        c->api.graph_destroy(graph);
    return executable;
}

int cuda_launch_run(struct cuda *c, struct cuda_steps steps, struct err *err)
{
    uint64_t hash[2];
    if (!hash_run(c, steps, hash))
        return launch_all(c, steps, err);
    struct cuda_run *run = find(c, hash);
    if (!run) {
        run = oldest(c, false);
        drop(c, run);
        *run = (struct cuda_run){.hash = {hash[0], hash[1]}, .used = ++c->runs};
        return launch_all(c, steps, err);
    }
    run->used = ++c->runs;
    if (!run->executable && !run->refused) {
        if (c->graphs == CUDA_GRAPHS)
            drop(c, oldest(c, true));
        run->executable = capture(c, steps);
        run->refused = !run->executable;
        c->graphs += run->executable != NULL;
    }
    if (!run->executable)
        return launch_all(c, steps, err);
    int error = c->api.executable_launch(run->executable, c->stream);
    return error == 0 ? 0 : cuda_call_failed(c, error, "replaying a step", err);
}

void cuda_drop_graphs(struct cuda *c)
{
    for (int i = 0; i < CUDA_RUNS; i++)
        drop(c, &c->run[i]);
}
