/* The Metal driver on the simulated framework: copies, barriers, splits, wrapped pages, residency, and what
 * becomes of failures. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../kernels/gpu/gpu.h"
#include "sim/sim.h"

#define WIDTH 300
#define ROWS 4
#define BYTES (ROWS * WIDTH * sizeof(float))

static const struct gpu_driver *const metal = &gpu_driver_metal;
static void *state;
static struct gpu_facts facts;
static struct err err;

static void open_driver(void)
{
    sim_control = (struct sim_control){.fail_after = -1};
    memset(&sim_counts, 0, sizeof sim_counts);
    cr_assert_eq(metal->open(&state, &(struct device_options){.name = "metal"}, &facts, &err), 0, "%s",
                 err.text);
}

static void close_driver(void)
{
    metal->close(state);
    cr_assert_eq(sim_counts.violations, 0, "%s", sim_counts.violation);
    cr_assert_eq(sim_counts.objects, 0, "%d objects are left", sim_counts.objects);
}

/* Opened and closed inside the test: Criterion does not count what fails in a fixture. */
#define METAL_TEST(name)              \
    static void test_##name(void);    \
    Test(metal, name)                 \
    {                                 \
        open_driver();                \
        test_##name();                \
        close_driver();               \
    }                                 \
    static void test_##name(void)

static struct gpu_memory *alloc(size_t bytes)
{
    struct gpu_memory *m = NULL;
    cr_assert_eq(metal->alloc(state, bytes, &m, &err), 0, "%s", err.text);
    return m;
}

static struct gpu_step copy_step(enum gpu_step_kind kind, struct gpu_memory *m, size_t offset, size_t bytes,
                                 void *host)
{
    return (struct gpu_step){
        .kind = kind,
        .op = OPERATOR_COUNT,
        .layer = -1,
        .stage = "copy",
        .n_operands = 1,
        .operand =
            {{.memory = m, .offset = offset, .bytes = bytes, .written = kind == GPU_UPLOAD, .name = "copy"}},
        .host = host};
}

/* y[r] = x[index[r]] */
static struct gpu_step gather_step(struct gpu_memory *x, struct gpu_memory *index, struct gpu_memory *y)
{
    struct gpu_step s = {.kind = GPU_DISPATCH, .program = GPU_gather, .grid = {(WIDTH + 255) / 256, ROWS, 1},
                         .n_operands = 3, .args_bytes = sizeof(struct gather_args), .op = OPERATOR_gather,
                         .layer = 3, .stage = "residual",
                         .operand = {{.memory = x, .bytes = BYTES, .name = "x"},
                                     {.memory = index, .bytes = ROWS * sizeof(int), .name = "index"},
                                     {.memory = y, .bytes = BYTES, .written = true, .name = "y"}}};
    memcpy(s.args, &(struct gather_args){.rows = ROWS, .width = WIDTH}, sizeof(struct gather_args));
    return s;
}

static int run(const struct gpu_step *step, int n)
{
    uint64_t ticket;
    int rc = metal->submit(state, step, n, &ticket, &err);
    return rc < 0 ? rc : metal->wait(state, ticket, &err);
}

static void put(struct gpu_memory *m, size_t offset, size_t bytes, void *host)
{
    struct gpu_step s = copy_step(GPU_UPLOAD, m, offset, bytes, host);
    cr_assert_eq(run(&s, 1), 0, "%s", err.text);
}

static void get(struct gpu_memory *m, size_t offset, size_t bytes, void *host)
{
    struct gpu_step s = copy_step(GPU_DOWNLOAD, m, offset, bytes, host);
    cr_assert_eq(run(&s, 1), 0, "%s", err.text);
}

/* Three buffers: x with known values, an index that turns the rows round, and room. */
static float values[ROWS * WIDTH];
static int turned[ROWS] = {3, 2, 1, 0};
static struct gpu_memory *x, *index_, *y, *z;

static void make_rows(void)
{
    for (int i = 0; i < ROWS * WIDTH; i++)
        values[i] = (float)i;
    x = alloc(BYTES);
    index_ = alloc(sizeof turned);
    y = alloc(BYTES);
    z = alloc(BYTES);
    put(x, 0, BYTES, values);
    put(index_, 0, sizeof turned, turned);
}

static void free_rows(void)
{
    metal->free(state, x);
    metal->free(state, index_);
    metal->free(state, y);
    metal->free(state, z);
}

METAL_TEST(facts)
{
    cr_assert_str_eq(facts.name, "metal");
    cr_assert_str_eq(facts.description, "Simulated M1, 8 cores");
    cr_assert_eq(facts.simd_width, 32);
    cr_assert_eq(facts.memory, (size_t)8 << 30);
    cr_assert(facts.unified);
    cr_assert_gt(metal->bandwidth(state, 1 << 20), 0);
}

METAL_TEST(copies_of_any_size_at_any_offset)
{
    struct gpu_memory *m = alloc(64);
    unsigned char in[64], want[64] = {0}, out[64];
    for (size_t offset = 0; offset < 9; offset++) {
        for (size_t bytes = 1; bytes < 12; bytes++) {
            for (size_t i = 0; i < bytes; i++)
                in[i] = (unsigned char)(17 * offset + 31 * bytes + i);
            memcpy(want + offset, in, bytes);
            put(m, offset, bytes, in);
            get(m, offset, bytes, out);
            cr_assert_arr_eq(out, in, bytes);
        }
    }
    get(m, 0, 64, out);
    cr_assert_arr_eq(out, want, 64); /* zeroed, and nothing beside the copies is touched */
    metal->free(state, m);
}

METAL_TEST(steps_see_those_before_them)
{
    make_rows();
    float out[2][ROWS * WIDTH];
    struct gpu_step list[] = {gather_step(x, index_, y), gather_step(y, index_, z),
                              copy_step(GPU_DOWNLOAD, y, 0, BYTES, out[0]),
                              copy_step(GPU_DOWNLOAD, z, 0, BYTES, out[1])};
    cr_assert_eq(run(list, 4), 0, "%s", err.text);
    for (int i = 0; i < ROWS * WIDTH; i++) {
        cr_assert_eq(out[0][i], values[turned[i / WIDTH] * WIDTH + i % WIDTH]);
        cr_assert_eq(out[1][i], values[i]);
    }
    cr_assert_eq(sim_counts.barriers, 1);
    free_rows();
}

METAL_TEST(barriers_stand_only_where_they_must)
{
    make_rows();
    struct gpu_step beside[] = {gather_step(x, index_, y), gather_step(x, index_, z)};
    cr_assert_eq(run(beside, 2), 0, "%s", err.text);
    cr_assert_eq(sim_counts.barriers, 0);
    struct gpu_step over[] = {gather_step(y, index_, z),
                              gather_step(x, index_, y)}; /* written after it is read */
    cr_assert_eq(run(over, 2), 0, "%s", err.text);
    cr_assert_eq(sim_counts.barriers, 1);
    struct gpu_step twice[] = {gather_step(x, index_, y), gather_step(z, index_, y)}; /* written twice */
    cr_assert_eq(run(twice, 2), 0, "%s", err.text);
    cr_assert_eq(sim_counts.barriers, 2);
    free_rows();
}

METAL_TEST(what_is_declared_wrongly_is_found)
{
    make_rows();
    struct gpu_step list[] = {gather_step(x, index_, y), gather_step(y, index_, z)};
    list[0].operand[2].bytes = 0; /* the driver now sees no conflict; the kernel writes all the same */
    cr_assert_eq(run(list, 2), ERR_DEVICE);
    cr_assert(strstr(err.text, "without a barrier after gather"), "%s", err.text);
    cr_assert(strstr(err.text, "residual of layer 3"), "%s", err.text);
    sim_counts.violations = 0;
    free_rows();
}

METAL_TEST(nothing_runs_before_the_wait)
{
    make_rows();
    float out[ROWS * WIDTH];
    memset(out, 0xff, sizeof out);
    uint64_t ticket[2];
    struct gpu_step list[] = {gather_step(x, index_, y), copy_step(GPU_DOWNLOAD, y, 0, BYTES, out)};
    struct gpu_step next = gather_step(y, index_, x);
    cr_assert_eq(metal->submit(state, list, 2, &ticket[0], &err), 0);
    cr_assert_eq(metal->submit(state, &next, 1, &ticket[1], &err), 0);
    cr_assert(out[0] != out[0]);
    cr_assert_eq(metal->wait(state, ticket[1], &err), 0);
    cr_assert_eq(out[0], values[3 * WIDTH]);
    cr_assert_eq(metal->wait(state, ticket[0], &err), 0);
    free_rows();
}

METAL_TEST(more_lists_than_may_be_queued)
{
    make_rows();
    uint64_t ticket = 0;
    for (int i = 0; i < 3 * GPU_IN_FLIGHT; i++) {
        struct gpu_step s = i % 2 ? gather_step(y, index_, x) : gather_step(x, index_, y);
        cr_assert_eq(metal->submit(state, &s, 1, &ticket, &err), 0);
    }
    cr_assert_eq(metal->wait(state, ticket, &err), 0);
    float out[ROWS * WIDTH];
    get(x, 0, BYTES, out);
    cr_assert_arr_eq(out, values, sizeof values);
    free_rows();
}

METAL_TEST(long_lists_are_split_by_time)
{
    make_rows();
    enum { STEPS = 64 };
    struct gpu_step list[STEPS];
    for (int i = 0; i < STEPS; i++)
        list[i] = i % 2 ? gather_step(y, index_, x) : gather_step(x, index_, y);
    sim_control.slow = 1e-4;
    for (int i = 0; i < 10; i++)
        cr_assert_eq(run(list, STEPS), 0, "%s", err.text);
    int before = sim_counts.command_buffers;
    cr_assert_eq(run(list, STEPS), 0);
    cr_assert_eq(sim_counts.command_buffers - before, 1, "a short list is one command buffer");
    sim_control.slow = 0.02; /* 1.3 s in all */
    for (int i = 0; i < 10; i++)
        cr_assert_eq(run(list, STEPS), 0);
    sim_counts.longest = 0;
    before = sim_counts.command_buffers;
    cr_assert_eq(run(list, STEPS), 0);
    cr_assert_leq(sim_counts.longest, 0.121);
    cr_assert_leq(sim_counts.command_buffers - before, 24);
    double seconds[OPERATOR_COUNT];
    metal->profile(state, seconds);
    cr_assert_gt(seconds[OPERATOR_gather], 10);
    free_rows();
}

/* ---- wrapped pages ---- */

static char *pages(size_t bytes)
{
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(p, MAP_FAILED);
    return p;
}

static void check_wrapped(size_t max_buffer, int tensors, int most)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), each = page + page / 2 + 32;
    char *file = pages((size_t)tensors * each + page);
    struct gpu_memory *tensor[16];
    float out[ROWS * WIDTH];
    metal->close(state);
    sim_control.max_buffer = max_buffer;
    sim_counts.wrapped = 0;
    cr_assert_eq(metal->open(&state, &(struct device_options){.name = "metal"}, &facts, &err), 0);
    make_rows();
    for (int i = 0; i < tensors; i++) {
        size_t offset = 1;
        for (int k = 0; k < ROWS * WIDTH; k++)
            memcpy(file + (size_t)i * each + (size_t)k * 4, &(float){(float)(1000 * i + k)}, 4);
        cr_assert_eq(metal->wrap(state, file + (size_t)i * each, BYTES, &tensor[i], &offset, &err), 0, "%s",
                     err.text);
        cr_assert_eq(offset, 0);
    }
    for (int i = 0; i < tensors; i++) {
        struct gpu_step list[] = {gather_step(tensor[i], index_, y),
                                  copy_step(GPU_DOWNLOAD, y, 0, BYTES, out)};
        cr_assert_eq(run(list, 2), 0, "%s", err.text);
        cr_assert_eq(out[1], (float)(1000 * i + 3 * WIDTH + 1));
    }
    cr_assert_leq(sim_counts.wrapped, most, "%d buffers", sim_counts.wrapped);
    struct gpu_memory *none;
    cr_assert_eq(metal->wrap(state, file, facts.memory, &none, &(size_t){0}, &err), ERR_NOMEM);
    for (int i = 0; i < tensors; i++)
        metal->free(state, tensor[i]);
    free_rows();
    munmap(file, (size_t)tensors * each + page);
}

METAL_TEST(tensors_of_a_file_share_a_buffer)
{
    check_wrapped(0, 16, 1);
}

METAL_TEST(tensors_of_a_large_file_share_several)
{
    check_wrapped(6 * (size_t)sysconf(_SC_PAGESIZE), 16, 8);
}

METAL_TEST(wrapped_pages_are_not_written)
{
    make_rows();
    char *file = pages(BYTES);
    struct gpu_memory *tensor;
    size_t offset;
    cr_assert_eq(metal->wrap(state, file, BYTES, &tensor, &offset, &err), 0);
    struct gpu_step s = gather_step(x, index_, tensor);
    cr_assert_eq(run(&s, 1), ERR_DEVICE);
    cr_assert(strstr(err.text, "bound for reading"), "%s", err.text);
    sim_counts.violations = 0;
    metal->free(state, tensor);
    munmap(file, BYTES);
    free_rows();
}

/* ---- failures ---- */

METAL_TEST(no_memory)
{
    struct gpu_memory *m = NULL;
    cr_assert_eq(metal->alloc(state, (size_t)1 << 40, &m, &err), ERR_NOMEM);
    sim_control.no_memory = true;
    cr_assert_eq(metal->alloc(state, 4096, &m, &err), ERR_NOMEM);
    cr_assert(strstr(err.text, "4096"), "%s", err.text);
    cr_assert_null(m);
    sim_control.no_memory = false;
    m = alloc(4096);
    sim_control.no_memory = true; /* for staging */
    struct gpu_step s = copy_step(GPU_UPLOAD, m, 0, sizeof values, values);
    cr_assert_eq(run(&s, 1), ERR_NOMEM);
    sim_control.no_memory = false;
    put(m, 0, 1024, values);
    metal->free(state, m);
}

METAL_TEST(a_failed_command_buffer_fails_its_list_alone)
{
    make_rows();
    static const int codes[] = {1, 2, 3, 8, 9}; /* internal, timeout, page fault, out of memory, invalid */
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        sim_control.fail_after = 0;
        sim_control.fail_code = codes[i];
        struct gpu_step list[] = {gather_step(x, index_, y), gather_step(y, index_, z)};
        uint64_t first, second;
        cr_assert_eq(metal->submit(state, list, 1, &first, &err), 0);
        cr_assert_eq(metal->submit(state, list + 1, 1, &second, &err), 0);
        cr_assert_eq(metal->wait(state, second, &err), 0); /* ends the first too, whose failure is kept */
        cr_assert_eq(metal->wait(state, first, &err), ERR_DEVICE);
        cr_assert(strstr(err.text, "planted failure") && strstr(err.text, "layer 3"), "%s", err.text);
        cr_assert_eq(metal->wait(state, first, &err), 0);
        cr_assert_eq(run(list, 2), 0, "%s", err.text);
    }
    free_rows();
}

METAL_TEST(a_lost_device_says_so_from_then_on)
{
    make_rows();
    sim_control.fail_after = 0;
    sim_control.fail_code = 11;
    struct gpu_step s = gather_step(x, index_, y);
    cr_assert_eq(run(&s, 1), ERR_DEVICE);
    for (int i = 0; i < 3; i++) {
        struct gpu_memory *m;
        err.code = 0;
        cr_assert_eq(run(&s, 1), ERR_DEVICE);
        cr_assert(strstr(err.text, "planted failure"), "%s", err.text);
        cr_assert_eq(metal->alloc(state, 16, &m, &err), ERR_DEVICE);
        cr_assert_eq(metal->bandwidth(state, 1 << 20), 0);
    }
    free_rows();
}

METAL_TEST(kernels_that_do_not_compile)
{
    make_rows();
    sim_control.no_compile = true;
    struct gpu_step s = gather_step(x, index_, y);
    cr_assert_eq(run(&s, 1), ERR_DEVICE);
    cr_assert(strstr(err.text, "the plain kernels do not compile: program_source:1:1"), "%s", err.text);
    sim_control.no_compile = false;
    cr_assert_eq(run(&s, 1), 0);
    cr_assert_eq(sim_counts.libraries, 1);
    free_rows();
}

METAL_TEST(another_width_is_refused_by_name)
{
    make_rows();
    sim_control.simd_width = 64;
    struct gpu_step s = gather_step(x, index_, y);
    cr_assert_eq(run(&s, 1), ERR_UNSUPPORTED);
    cr_assert(strstr(err.text, "gather 64 lanes"), "%s", err.text);
    free_rows();
}

METAL_TEST(other_gpus_are_refused)
{
    void *other;
    sim_control.no_apple_gpu = true;
    cr_assert_eq(metal->open(&other, &(struct device_options){.name = "metal"}, &facts, &err),
                 ERR_UNSUPPORTED);
    cr_assert(strstr(err.text, "Simulated M1 is no Apple GPU"), "%s", err.text);
}

/* ---- residency ---- */

METAL_TEST(residency_is_kept_and_yields_under_pressure)
{
    make_rows();
    struct gpu_step s = gather_step(x, index_, y);
    cr_assert(sim_counts.resident);
    metal->idle(state);
    usleep(1200000);
    cr_assert(sim_counts.resident, "kept warm");
    sim_control.pressure = true;
    usleep(1200000);
    cr_assert_not(sim_counts.resident, "given up between two beats");
    cr_assert_eq(run(&s, 1), 0);
    cr_assert(sim_counts.resident, "asked for again");
    metal->idle(state);
    cr_assert_not(sim_counts.resident, "given up at once");
    free_rows();
}

METAL_TEST(without_residency_sets)
{
    metal->close(state);
    sim_control.no_residency = true;
    cr_assert_eq(metal->open(&state, &(struct device_options){.name = "metal"}, &facts, &err), 0);
    make_rows();
    metal->idle(state);
    cr_assert_not(sim_counts.resident);
    free_rows();
}
