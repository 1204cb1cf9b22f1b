/* The emulator: what threads do together gives what a GPU gives, and what no GPU promises is reported in
 * words that name the kernel, the buffer and the place. */
#include <criterion/criterion.h>
#include <string.h>

#include "../../../kernels/emulator/driver.h"
#include "emulator_kernels.h"

static const struct gpu_driver *const driver = &gpu_driver_emulator;
static void *state;
static struct gpu_facts facts;

static void open_driver(void)
{
    struct err err = {0};
    struct device_options options = {.name = "emulator", .threads = 2};
    cr_assert_eq(driver->open(&state, &options, &facts, &err), 0, "%s", err.text);
    emulator_plant(state, planted_kernels, PLANTED_COUNT);
}

static void close_driver(void)
{
    driver->close(state);
}

TestSuite(emulator, .init = open_driver, .fini = close_driver);

static struct gpu_memory *memory(size_t floats)
{
    struct gpu_memory *m = NULL;
    struct err err = {0};
    cr_assert_eq(driver->alloc(state, floats * sizeof(float), &m, &err), 0, "%s", err.text);
    return m;
}

static struct gpu_step copy(enum gpu_step_kind kind, struct gpu_memory *m, size_t bytes, void *host)
{
    return (struct gpu_step){
        .kind = kind,
        .op = OPERATOR_COUNT,
        .n_operands = 1,
        .host = host,
        .operand = {{.memory = m, .bytes = bytes, .written = kind == GPU_UPLOAD, .name = "copy"}}};
}

/* x and y of n floats each */
static struct gpu_step dispatch(enum planted kernel, int groups, int n, int breaks, struct gpu_memory *x,
                                struct gpu_memory *y, size_t x_bytes, size_t y_bytes)
{
    struct gpu_step s = {.kind = GPU_DISPATCH,
                         .op = OPERATOR_COUNT,
                         .stage = "test",
                         .layer = -1,
                         .program = (enum gpu_program)(GPU_PROGRAM_COUNT + kernel),
                         .grid = {(uint32_t)groups, 1, 1},
                         .n_operands = 2,
                         .args_bytes = sizeof(struct planted_args),
                         .operand = {{.memory = x, .bytes = x_bytes, .name = "x"},
                                     {.memory = y, .bytes = y_bytes, .written = true, .name = "y"}}};
    memcpy(s.args, &(struct planted_args){n, breaks}, sizeof(struct planted_args));
    return s;
}

static int run(const struct gpu_step *step, int n, struct err *err)
{
    uint64_t ticket;
    int rc = driver->submit(state, step, n, &ticket, err);
    return rc < 0 ? rc : driver->wait(state, ticket, err);
}

/* One kernel from `in` to `out`, of so many bytes. */
static void run_one(enum planted kernel, int groups, int n, void *in, size_t in_bytes, void *out,
                    size_t out_bytes)
{
    struct gpu_memory *x = memory(in_bytes / 4), *y = memory(out_bytes / 4);
    struct err err = {0};
    struct gpu_step step[] = {copy(GPU_UPLOAD, x, in_bytes, in),
                              dispatch(kernel, groups, n, 0, x, y, in_bytes, out_bytes),
                              copy(GPU_DOWNLOAD, y, out_bytes, out)};
    cr_assert_eq(run(step, 3, &err), 0, "%s", err.text);
    driver->free(state, x);
    driver->free(state, y);
}

Test(emulator, a_group_barrier_orders_shared_memory)
{
    float x[1024], y[1024];
    for (int i = 0; i < 1024; i++)
        x[i] = (float)i;
    run_one(PLANTED_REVERSE, 4, 1024, x, sizeof x, y, sizeof y);
    for (int i = 0; i < 1024; i++)
        cr_assert_eq(y[i], x[i / 256 * 256 + 255 - i % 256], "%d", i);
}

Test(emulator, lanes_work_together)
{
    float x[64], y[64][4];
    for (int i = 0; i < 64; i++)
        x[i] = (float)(i * i % 37) - 12;
    run_one(PLANTED_LANES, 1, 64, x, sizeof x, y, sizeof y);
    for (int i = 0; i < 64; i++) {
        float sum = 0, greatest = x[i & 32];
        for (int k = i & 32; k < (i & 32) + 32; k++) {
            sum += x[k];
            greatest = x[k] > greatest ? x[k] : greatest;
        }
        cr_assert(y[i][0] == sum && y[i][1] == greatest && y[i][2] == (float)(i ^ 5) &&
                      y[i][3] == x[(i & 32) + 7],
                  "lane %d: %g %g %g %g", i, y[i][0], y[i][1], y[i][2], y[i][3]);
    }
}

Test(emulator, tiles_multiply)
{
    float x[512], y[256];
    for (int i = 0; i < 512; i++)
        x[i] = (float)(i * 7 % 23 - 11) / 8;
    run_one(PLANTED_TILES, 1, 0, x, sizeof x, y, sizeof y);
    for (int i = 0; i < 256; i++) {
        float sum = 0;
        for (int k = 0; k < 16; k++)
            sum += x[i / 16 * 16 + k] * (x[256 + k * 16 + i % 16] + x[256 + i % 16 * 16 + k]);
        cr_assert_float_eq(y[i], sum, 1e-4f, "%d: %g, not %g", i, y[i], sum);
    }
}

Test(emulator, asynchronous_copies_are_there_when_they_are_waited_for)
{
    uint16_t x[512], y[512];
    for (int i = 0; i < 512; i++)
        x[i] = (uint16_t)i;
    run_one(PLANTED_ASYNC, 1, 2, x, sizeof x, y, sizeof y);
    cr_assert_arr_eq(x, y, sizeof x);
    run_one(PLANTED_ASYNC, 1, 1, x, sizeof x, y, sizeof y);
    cr_assert_arr_eq(x, y, sizeof x / 2);
    for (int i = 256; i < 512; i++)
        cr_assert_eq(y[i], 0x7fbf, "%d", i);
}

Test(emulator, steps_follow_one_another_and_the_host_sees_them_when_it_waits)
{
    enum { N = 100 };
    struct gpu_memory *x = memory(N), *y = memory(N);
    struct err err = {0};
    float in[N], mid[N] = {0}, out[N] = {0};
    for (int i = 0; i < N; i++)
        in[i] = (float)i;
    struct gpu_step step[] = {
        copy(GPU_UPLOAD, x, sizeof in, in), dispatch(PLANTED_ADD, 2, N, 0, x, y, sizeof in, sizeof in),
        copy(GPU_DOWNLOAD, y, sizeof in, mid), dispatch(PLANTED_ADD, 2, N, 0, y, x, sizeof in, sizeof in),
        copy(GPU_DOWNLOAD, x, sizeof in, out)};
    uint64_t first, second;
    float more[N] = {0};
    struct gpu_step again[] = {dispatch(PLANTED_ADD, 2, N, 0, x, y, sizeof in, sizeof in),
                               copy(GPU_DOWNLOAD, y, sizeof in, more)};
    cr_assert_eq(driver->submit(state, step, 5, &first, &err), 0, "%s", err.text);
    cr_assert_eq(driver->submit(state, again, 2, &second, &err), 0, "%s", err.text);
    cr_assert(mid[0] == 0 && out[0] == 0 && more[0] == 0);
    cr_assert_eq(driver->wait(state, first, &err), 0, "%s", err.text);
    for (int i = 0; i < N; i++)
        cr_assert(mid[i] == in[i] + 1 && out[i] == in[i] + 2 && more[i] == 0, "%d: %g %g", i, mid[i], out[i]);
    cr_assert_eq(driver->wait(state, second, &err), 0, "%s", err.text);
    cr_assert_eq(more[N - 1], in[N - 1] + 3);
}

static const struct {
    enum breaks breaks;
    const char *words[3];
} cases[] = {
    {BREAK_READ_OUTSIDE, {"x[128] read", "128 elements"}},
    {BREAK_READ_BEFORE, {"x[-1] read", "128 elements"}},
    {BREAK_WRITE_OUTSIDE, {"y[", "written", "128 elements"}},
    {BREAK_WRITE_INPUT, {"y[", "written", "bound for reading"}},
    {BREAK_MISALIGNED, {"x is misaligned", "byte 4"}},
    {BREAK_SHARED_OUTSIDE, {"part[64] written", "64 elements"}},
    {BREAK_SHARED_WRITE_READ, {"race: part[8]", "thread 8", "thread 9"}},
    {BREAK_SHARED_READ_WRITE, {"race: part[9]", "thread 8", "thread 9"}},
    {BREAK_SHARED_OTHER_SIMD, {"race: part[", "read by", "without a barrier between"}},
    {BREAK_GLOBAL_RACE, {"race: y[", "written by thread", "without a barrier between"}},
    {BREAK_GROUPS_WRITE, {"race: y[", "written by group", "of one dispatch"}},
    {BREAK_GROUPS_READ, {"race: y[", "group 0", "group 1"}},
    {BREAK_BARRIER_SKIPPED, {"waits in group_barrier at emulator_kernels.cpp:", "thread 3, which has ended"}},
    {BREAK_BARRIER_PLACES,
     {"is in group_barrier at emulator_kernels.cpp:", "others at emulator_kernels.cpp:"}},
    {BREAK_BARRIER_ENDED, {"thread 40, which has ended", "waits in "}},
    {BREAK_SIMD_PLACES, {"simd_sum at", "simd_max at", "lanes beside it"}},
    {BREAK_SIMD_SKIPPED, {"waits in simd_barrier at", "for thread ", "which has ended"}},
    {BREAK_LANE_OUTSIDE, {"simd_broadcast asks for lane 32"}},
    {BREAK_READ_EARLY, {"x[", "read before DEPENDENCY_WAIT", "add"}},
    {BREAK_WRITE_EARLY, {"y[", "written before DEPENDENCY_WAIT", "add"}},
    {BREAK_NO_WAIT, {"ends without DEPENDENCY_WAIT"}},
    {BREAK_WAIT_TWICE, {"comes to DEPENDENCY_WAIT twice"}},
    {BREAK_LAUNCH_FIRST, {"DEPENDENCY_LAUNCH before DEPENDENCY_WAIT"}},
    {BREAK_LAUNCH_EARLY, {"DEPENDENCY_LAUNCH_EARLY, of which the step says nothing"}},
};

/* Behind a step that launches early the one before it may still run, and so may a copy. */
Test(emulator, early_reads_look_at_all_that_may_still_run)
{
    enum { N = 128 };
    struct gpu_memory *x = memory(N), *y = memory(N), *z = memory(N);
    for (int early = 0; early < 2; early++) {
        float in[N] = {0};
        struct gpu_step step[] = {dispatch(PLANTED_ADD, 2, N, 0, x, y, N * 4, N * 4),
                                  dispatch(PLANTED_ADD, 2, N, 0, x, z, N * 4, N * 4),
                                  dispatch(PLANTED_BREAK, 2, N, BREAK_READ_EARLY, y, z, N * 4, N * 4)};
        struct gpu_step upload[] = {copy(GPU_UPLOAD, y, sizeof in, in), step[1], step[2]};
        struct err err = {0};
        step[1].launches_early = upload[1].launches_early = early;
        cr_expect_eq(run(step, 3, &err), early ? ERR_DEVICE : 0, "%s", err.text);
        cr_expect(!early || strstr(err.text, "before DEPENDENCY_WAIT, while add uses it"), "%s", err.text);
        cr_expect_eq(run(upload, 3, &err), early ? ERR_DEVICE : 0, "%s", err.text);
        cr_expect(!early || strstr(err.text, "before DEPENDENCY_WAIT, while a copy uses it"), "%s", err.text);
    }
    driver->free(state, x);
    driver->free(state, y);
    driver->free(state, z);
}

/* Twice, with a good list between: a violation is the end of its list alone. */
Test(emulator, violations_are_reported_and_survived)
{
    enum { N = 128 };
    struct gpu_memory *x = memory(N), *y = memory(N);
    for (size_t k = 0; k < 2 * sizeof cases / sizeof *cases; k++) {
        size_t i = k / 2;
        bool input = cases[i].breaks == BREAK_WRITE_INPUT, after = cases[i].breaks == BREAK_WRITE_EARLY;
        float out = 7;
        struct gpu_step step[] = {
            dispatch(PLANTED_ADD, 2, N, 0, after ? y : x, after ? x : y, N * 4, N * 4),
            dispatch(PLANTED_BREAK, 2, N, (int)cases[i].breaks, after ? x : y, after ? y : x, N * 4, N * 4),
            copy(GPU_DOWNLOAD, x, sizeof out, &out)};
        step[1].operand[1].written = !input;
        struct err err = {0};
        cr_expect_eq(run(step, 3, &err), ERR_DEVICE, "case %zu", i);
        cr_expect(strstr(err.text, "test: breaker: "), "case %zu: %s", i, err.text);
        for (int w = 0; w < 3 && cases[i].words[w]; w++)
            cr_expect(strstr(err.text, cases[i].words[w]), "case %zu wants '%s': %s", i, cases[i].words[w],
                      err.text);
        cr_expect_eq(out, 7);
        struct gpu_step good[] = {dispatch(PLANTED_BREAK, 2, N, BREAK_NOTHING, y, x, N * 4, N * 4),
                                  copy(GPU_DOWNLOAD, x, sizeof out, &out)};
        err.code = 0;
        cr_expect_eq(run(good, 2, &err), 0, "after case %zu: %s", i, err.text);
        cr_expect_eq(out, 2);
    }
}

Test(emulator, steps_that_do_not_fit_their_kernel_are_refused)
{
    struct gpu_memory *x = memory(64), *y = memory(64);
    struct gpu_step good = dispatch(PLANTED_ADD, 1, 64, 0, x, y, 256, 256), bad = good;
    struct err err = {0};
    bad.args_bytes = 4;
    cr_expect_eq(run(&bad, 1, &err), ERR_DEVICE);
    cr_expect(strstr(err.text, "add: 4 bytes of arguments, 8 wanted"), "%s", err.text);
    bad = good;
    bad.n_operands = 1;
    cr_expect_eq(run(&bad, 1, &err), ERR_DEVICE);
    cr_expect(strstr(err.text, "add: 1 operands, 2 wanted"), "%s", err.text);
    bad = good;
    bad.operand[0].bytes = 260;
    cr_expect_eq(run(&bad, 1, &err), ERR_DEVICE);
    cr_expect(strstr(err.text, "operand x is no part"), "%s", err.text);
    bad = good;
    bad.grid[1] = 0;
    cr_expect_eq(run(&bad, 1, &err), ERR_DEVICE);
    cr_expect(strstr(err.text, "a grid of 1 x 0 x 1"), "%s", err.text);
    err.code = 0;
    cr_expect_eq(run(&good, 1, &err), 0, "%s", err.text);
}

Test(emulator, a_result_that_is_left_out_is_reported)
{
    struct gpu_memory *x = memory(64), *y = memory(64);
    struct gpu_step step = dispatch(PLANTED_ADD, 1, 61, 0, x, y, 256, 256);
    struct err err = {0};
    cr_expect_eq(run(&step, 1, &err), 0, "%s", err.text);
    step.operand[1].whole = true;
    cr_expect_eq(run(&step, 1, &err), ERR_DEVICE);
    cr_expect(strstr(err.text, "add: y is not written from byte 244 of 256"), "%s", err.text);
    step = dispatch(PLANTED_ADD, 1, 64, 0, x, y, 256, 256);
    step.operand[1].whole = true;
    cr_expect_eq(run(&step, 1, &err), 0, "%s", err.text);
}

/* As on a GPU that shares the host's memory: pages of a file are read where they are, and only read. */
Test(emulator, host_pages_are_wrapped)
{
    static float pages[2048];
    struct gpu_memory *x, *y = memory(64);
    size_t offset;
    struct err err = {0};
    float out[64];
    for (int i = 0; i < 64; i++)
        pages[100 + i] = (float)i;
    cr_assert_eq(driver->wrap(state, pages + 100, sizeof out, &x, &offset, &err), 0, "%s", err.text);
    struct gpu_step step[] = {dispatch(PLANTED_ADD, 1, 64, 0, x, y, sizeof out, sizeof out),
                              copy(GPU_DOWNLOAD, y, sizeof out, out)};
    step[0].operand[0].offset = offset;
    cr_assert_eq(run(step, 2, &err), 0, "%s", err.text);
    for (int i = 0; i < 64; i++)
        cr_expect_eq(out[i], (float)i + 1);
    struct gpu_step back = dispatch(PLANTED_ADD, 1, 64, 0, y, x, sizeof out, sizeof out);
    back.operand[1].offset = offset;
    cr_expect_eq(run(&back, 1, &err), ERR_DEVICE);
    cr_expect(strstr(err.text, "operand y is no part of the device's memory"), "%s", err.text);
}
