/* The CUDA driver over a libcuda that is only paper (support/fake_cuda.c): lists, graphs, copies, the cache of
 * compiled kernels, and what every call's failure leads to. Needs no card. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "../../../kernels/cuda/api.h"
#include "../../../kernels/cuda/ptx.h"
#include "../../../kernels/gpu/gpu.h"
#include "../../support/fake_cuda.h"

static const struct gpu_driver *const driver = &gpu_driver_cuda;
static void *state;
static struct gpu_facts facts;
static char folder[64];

static void start(void)
{
    strcpy(folder, "/tmp/hearth-cuda-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    setenv("XDG_CACHE_HOME", folder, 1);
    setenv("HEARTH_LIBCUDA", FAKE_CUDA, 1);
    setenv("HEARTH_LIBNVRTC", FAKE_CUDA, 1);
    fake_cuda_reset();
}

static void stop(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(cuda, .init = start, .fini = stop);

static void open_card(void)
{
    struct err err;
    cr_assert_eq(driver->open(&state, &(struct device_options){.name = "cuda"}, &facts, &err), 0, "%s", err.text);
}

static void close_card(void)
{
    driver->close(state);
    cr_assert_eq(fake_cuda.live, 0, "%d objects are left", fake_cuda.live);
}

static struct gpu_memory *memory(size_t bytes)
{
    struct gpu_memory *m = NULL;
    struct err err;
    cr_assert_eq(driver->alloc(state, bytes, &m, &err), 0, "%s", err.text);
    return m;
}

/* A kernel that, on the fake card, adds `value` to the first int at `offset`. */
static struct gpu_step kernel(struct gpu_memory *m, size_t offset, int value)
{
    struct gpu_step step = {.kind = GPU_DISPATCH, .program = GPU_rms_norm, .grid = {1, 1, 1}, .n_operands = 1,
                            .args_bytes = sizeof value, .overlaps = true, .layer = 2, .stage = "norm",
                            .operand = {{.memory = m, .offset = offset, .bytes = 4, .written = true}}};
    memcpy(step.args, &value, sizeof value);
    return step;
}

static struct gpu_step copy(enum gpu_step_kind kind, struct gpu_memory *m, size_t bytes, void *host)
{
    return (struct gpu_step){.kind = kind, .host = host, .op = OPERATOR_COUNT,
                             .operand = {{.memory = m, .bytes = bytes}}};
}

#define KERNELS 6
#define STEPS (KERNELS + 2)

/* Sets an int to `first`, adds `value` six times, reads it back. */
static void make_list(struct gpu_step *step, struct gpu_memory *m, int *first, int value, int *result)
{
    step[0] = copy(GPU_UPLOAD, m, sizeof *first, first);
    for (int i = 0; i < KERNELS; i++)
        step[1 + i] = kernel(m, 0, value);
    step[1 + KERNELS] = copy(GPU_DOWNLOAD, m, sizeof *result, result);
}

static int run_list(struct gpu_memory *m, int first, int value, struct err *err)
{
    struct gpu_step step[STEPS];
    uint64_t ticket;
    int result = -1;
    make_list(step, m, &first, value, &result);
    int rc = driver->submit(state, step, STEPS, &ticket, err);
    if (rc == 0)
        rc = driver->wait(state, ticket, err);
    return rc < 0 ? rc : result;
}

Test(cuda, says_what_the_card_is)
{
    open_card();
    cr_assert_str_eq(facts.name, "cuda:0");
    cr_assert_str_eq(facts.description, "Paper GPU, 4 multiprocessors, 16 GiB");
    cr_assert_eq(facts.simd_width, 32);
    cr_assert(facts.int8_dot && !facts.unified);
    cr_assert(facts.memory > (size_t)15 << 30 && facts.memory < (size_t)16 << 30);
    cr_assert(driver->bandwidth(state, 1 << 20) > 0);
    close_card();
}

static void refused(const char *name, const char *word)
{
    struct err err = {0};
    int rc = driver->open(&state, &(struct device_options){.name = name}, &facts, &err);
    cr_assert(rc == ERR_UNSUPPORTED || rc == ERR_INVALID, "%s: %d", name, rc);
    cr_assert(strstr(err.text, word), "%s: %s", name, err.text);
    cr_assert_eq(fake_cuda.live, 0);
}

Test(cuda, refuses_what_cannot_work)
{
    refused("cuda:1", "1 card");
    refused("cuda:x", "cuda:x");
    refused("cuda:", "cuda:");
    fake_cuda.major = 7;
    fake_cuda.minor = 0;
    refused("cuda", "7.0");
    fake_cuda.cards = 0;
    refused("cuda", "no card");
    fake_cuda_reset();
    fake_cuda.major = 7; /* no PTX is built for 7.5 */
    fake_cuda.minor = 5;
    setenv("HEARTH_LIBNVRTC", "/nonexistent", 1);
    refused("cuda", "install NVRTC");
    setenv("HEARTH_LIBCUDA", "/nonexistent", 1);
    refused("cuda", "not installed");
    setenv("HEARTH_LIBCUDA", "libm.so.6", 1);
    refused("cuda", "too old");
}

Test(cuda, a_run_that_comes_again_is_replayed)
{
    open_card();
    struct gpu_memory *m = memory(64);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(run_list(m, 10 * i, 3, NULL), 10 * i + 3 * KERNELS);
        cr_assert_eq(fake_cuda.graphs, i >= 1);
        cr_assert_eq(fake_cuda.replays, i);
    }
    cr_assert_eq(fake_cuda.launches, 2 * STEPS, "the copies too are kernels");
    cr_assert_eq(fake_cuda_calls("cuMemcpyHtoDAsync_v2") + fake_cuda_calls("cuMemcpyDtoHAsync_v2"), 0);
    cr_assert_eq(run_list(m, 0, 4, NULL), 4 * KERNELS); /* other arguments: another run */
    struct gpu_memory *other = memory(64);
    cr_assert_eq(run_list(other, 0, 3, NULL), 3 * KERNELS);
    cr_assert_eq(fake_cuda.replays, 4);
    driver->free(state, m);
    driver->free(state, other);
    close_card();
}

Test(cuda, kernels_overlap_only_what_is_a_kernel)
{
    open_card();
    struct gpu_memory *m = memory(64);
    run_list(m, 0, 1, NULL);
    cr_assert_eq(fake_cuda.dependent, STEPS - 1);
    driver->free(state, m);
    close_card();
    fake_cuda.version = 12020;
    open_card();
    m = memory(64);
    run_list(m, 0, 1, NULL);
    cr_assert_eq(fake_cuda.dependent, STEPS - 1);
    driver->free(state, m);
    close_card();
}

Test(cuda, graphs_are_bounded)
{
    open_card();
    struct gpu_memory *m = memory(64);
    for (int value = 1; value <= 300; value++)
        for (int again = 0; again < 3; again++)
            cr_assert_eq(run_list(m, 1, value, NULL), 1 + value * KERNELS);
    cr_assert_eq(fake_cuda.graphs, 64);
    driver->free(state, m);
    close_card();
    cr_assert_eq(fake_cuda.graphs, 0);
}

Test(cuda, without_graphs_kernels_are_launched)
{
    const char *const parts[] = {"cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        fake_cuda_reset();
        open_card();
        struct gpu_memory *m = memory(64);
        fake_cuda.fail = parts[i];
        fake_cuda.fail_code = 801;
        for (int again = 0; again < 4; again++)
            cr_assert_eq(run_list(m, 5, 2, NULL), 5 + 2 * KERNELS);
        cr_assert_eq(fake_cuda.replays, 0);
        cr_assert_eq(fake_cuda_calls(parts[i]), 1, "%s is tried once", parts[i]);
        driver->free(state, m);
        close_card();
    }
}

/* A launch that fails while it is recorded spoils nothing: the stream cannot be asked then. */
Test(cuda, a_failed_recording_is_launched)
{
    open_card();
    struct gpu_memory *m = memory(64);
    fake_cuda.fail = "cuLaunchKernelEx";
    fake_cuda.fail_at = STEPS + 2;
    fake_cuda.fail_code = 1;
    for (int again = 0; again < 4; again++)
        cr_assert_eq(run_list(m, 5, 2, NULL), 5 + 2 * KERNELS);
    cr_assert_eq(fake_cuda.replays, 0);
    driver->free(state, m);
    close_card();
}

/* Copies of lists that are queued together must not share page-locked memory. */
Test(cuda, lists_in_flight_keep_their_copies)
{
    open_card();
    enum { INTS = 50000 };
    struct gpu_memory *m = memory(INTS * sizeof(int));
    static int in[GPU_IN_FLIGHT][INTS], out[GPU_IN_FLIGHT][INTS];
    for (int round = 1; round <= 5; round++) {
        size_t bytes = (size_t)round * 10000 * sizeof(int);
        uint64_t ticket[GPU_IN_FLIGHT];
        for (int i = 0; i < GPU_IN_FLIGHT; i++) {
            for (int k = 0; k < INTS; k++)
                in[i][k] = round * 1000000 + i * 100000 + k;
            struct gpu_step step[] = {copy(GPU_UPLOAD, m, bytes, in[i]), kernel(m, 0, 7),
                                      copy(GPU_DOWNLOAD, m, bytes, out[i]), copy(GPU_DOWNLOAD, m, 0, NULL)};
            cr_assert_eq(driver->submit(state, step, 4, &ticket[i], NULL), 0);
        }
        for (int i = round % 2 ? 0 : GPU_IN_FLIGHT - 1; i < GPU_IN_FLIGHT; i++)
            cr_assert_eq(driver->wait(state, ticket[i], NULL), 0);
        for (int i = 0; i < GPU_IN_FLIGHT; i++) {
            in[i][0] += 7;
            cr_assert_arr_eq(in[i], out[i], bytes);
        }
    }
    driver->free(state, m);
    close_card();
}

/* What does not fit into page-locked memory is copied from and to where it is. */
Test(cuda, large_copies)
{
    open_card();
    size_t bytes = (size_t)40 << 20;
    struct gpu_memory *m = memory(bytes);
    int *in = calloc(1, bytes), *out = calloc(1, bytes), head[16] = {0};
    for (size_t i = 0; i < bytes / sizeof *in; i++)
        in[i] = (int)(i * 2654435761u);
    struct gpu_step step[] = {copy(GPU_UPLOAD, m, bytes, in), copy(GPU_DOWNLOAD, m, bytes, out),
                              copy(GPU_DOWNLOAD, m, sizeof head, head)};
    uint64_t ticket;
    cr_assert_eq(driver->submit(state, step, 3, &ticket, NULL), 0);
    cr_assert_eq(driver->wait(state, ticket, NULL), 0);
    cr_assert_eq(memcmp(in, out, bytes), 0);
    cr_assert_eq(memcmp(in, head, sizeof head), 0);
    free(in);
    free(out);
    driver->free(state, m);
    close_card();
}

Test(cuda, new_memory_is_zero)
{
    open_card();
    struct gpu_memory *m = memory(64);
    int out[16];
    memset(out, 1, sizeof out);
    struct gpu_step step = copy(GPU_DOWNLOAD, m, sizeof out, out);
    uint64_t ticket;
    cr_assert_eq(driver->submit(state, &step, 1, &ticket, NULL), 0);
    cr_assert_eq(driver->wait(state, ticket, NULL), 0);
    for (int i = 0; i < 16; i++)
        cr_assert_eq(out[i], 0);
    driver->free(state, m);
    close_card();
}

Test(cuda, a_full_card_is_no_memory_and_goes_on)
{
    open_card();
    struct gpu_memory *m = NULL;
    struct err err;
    cr_assert_eq(driver->alloc(state, (size_t)1 << 40, &m, &err), ERR_NOMEM);
    cr_assert(strstr(err.text, "1048576.0 MiB") && strstr(err.text, "16384.0 MiB are free"), "%s", err.text);
    m = memory(64);
    cr_assert_eq(run_list(m, 1, 1, NULL), 1 + KERNELS);
    driver->free(state, m);
    close_card();
}

/* A kernel's fault spoils the context: the same answer to everything until the card is closed. */
Test(cuda, a_fault_stays_until_close)
{
    open_card();
    struct gpu_memory *m = memory(64), *other = NULL;
    struct err first, later = {0};
    fake_cuda.fail = "cuEventSynchronize";
    fake_cuda.fail_code = 700;
    cr_assert_eq(run_list(m, 1, 1, &first), ERR_DEVICE);
    cr_assert(strstr(first.text, "CUDA_ERROR_ILLEGAL_ADDRESS") && strstr(first.text, "illegal memory access"), "%s",
              first.text);
    cr_assert_eq(run_list(m, 1, 1, &later), ERR_DEVICE);
    cr_assert_str_eq(later.text, first.text);
    cr_assert_eq(driver->alloc(state, 64, &other, &later), ERR_DEVICE);
    cr_assert_str_eq(later.text, first.text);
    cr_assert_eq(driver->wait(state, 1, &later), ERR_DEVICE);
    cr_assert_str_eq(later.text, first.text);
    cr_assert_eq(driver->bandwidth(state, 4096), 0);
    driver->free(state, m);
    close_card();
    fake_cuda_reset();
    open_card(); /* and opening again works */
    m = memory(64);
    cr_assert_eq(run_list(m, 1, 1, NULL), 1 + KERNELS);
    driver->free(state, m);
    close_card();
}

/* The message of a launch that is refused names the kernel. */
Test(cuda, a_refused_launch_names_the_kernel)
{
    open_card();
    struct gpu_memory *m = memory(64);
    struct err err = {0};
    fake_cuda.fail = "cuLaunchKernelEx";
    fake_cuda.fail_at = 2;
    fake_cuda.fail_code = 1;
    cr_assert_eq(run_list(m, 1, 1, &err), ERR_DEVICE);
    cr_assert(strstr(err.text, "rms_norm") && strstr(err.text, "layer 2"), "%s", err.text);
    cr_assert_eq(run_list(m, 1, 1, &err), 1 + KERNELS); /* nothing is broken */
    driver->free(state, m);
    close_card();
}

/* All that a program does, with failures allowed anywhere. */
static void try_everything(void)
{
    struct err err;
    if (driver->open(&state, &(struct device_options){.name = "cuda:0"}, &facts, &err) < 0) {
        cr_assert(*err.text);
        return;
    }
    struct gpu_memory *m = NULL;
    int rc = driver->alloc(state, 64, &m, &err);
    for (int i = 0; i < 4 && rc == 0; i++) {
        int result = run_list(m, i, 1, &err);
        cr_assert(result < 0 || result == i + KERNELS, "%d", result);
    }
    driver->bandwidth(state, 4096);
    if (rc == 0)
        driver->free(state, m);
    driver->close(state);
}

/* Each call fails at its first, second… use, with an error that passes and with one that stays. */
Test(cuda, every_call_may_fail)
{
#define X(member, symbol, parameters) #symbol,
    static const char *const names[] = {CUDA_CALLS(X) NVRTC_CALLS(X)};
#undef X
    int failed = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int at = 0, more = 2; more > 0; at++)
            for (int way = more = 0; way < 4; way++) {
                int version = 13000 + ++failed; /* a driver that no code is cached for */
                fake_cuda_reset();
                fake_cuda.version = version;
                fake_cuda.no_ptx = way & 1;
                fake_cuda.fail = names[i];
                fake_cuda.fail_at = at;
                fake_cuda.fail_code = way & 2 ? 719 : 1;
                try_everything();
                cr_assert_eq(fake_cuda.live, 0, "%s failing at %d leaves %d objects", names[i], at, fake_cuda.live);
                more += fake_cuda.fail == NULL; /* it was called that often */
            }
    cr_assert_gt(failed, 500);
}

/* ---- compiled kernels ---- */

/* The path of the only file in the cache. */
static void find_file(char *path, size_t size)
{
    char cache[128];
    snprintf(cache, sizeof cache, "%s/hearth/cuda", folder);
    DIR *dir = opendir(cache);
    cr_assert_not_null(dir);
    int found = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.') {
            snprintf(path, size, "%s/%s", cache, entry->d_name);
            found++;
        }
    closedir(dir);
    cr_assert_eq(found, 1);
}

Test(cuda, kernels_are_compiled_once)
{
    open_card();
    close_card();
    cr_assert_eq(fake_cuda.compiled, 1);
    open_card();
    close_card();
    cr_assert_eq(fake_cuda.compiled, 1);
    fake_cuda.version = 13010; /* another driver: other code */
    open_card();
    close_card();
    cr_assert_eq(fake_cuda.compiled, 2);
}

/* PTX as a module needs neither linker nor NVRTC, nor the cache. */
Test(cuda, a_driver_that_takes_ptx_compiles_it_whole)
{
    fake_cuda.loads_ptx = true;
    open_card();
    close_card();
    cr_assert_eq(fake_cuda.compiled, cuda_ptx[0].module ? 0 : 1);
}

Test(cuda, a_damaged_cache_is_compiled_again)
{
    char path[512];
    open_card();
    close_card();
    find_file(path, sizeof path);
    cr_assert(strstr(path, "-plain.cubin"));
    FILE *file = fopen(path, "r+");
    fseek(file, 20, SEEK_SET);
    fputc('!', file);
    fclose(file);
    open_card();
    close_card();
    cr_assert_eq(fake_cuda.compiled, 2);
    cr_assert_eq(truncate(path, 10), 0);
    open_card();
    close_card();
    cr_assert_eq(fake_cuda.compiled, 3);
    fake_cuda.fail = "cuModuleLoadData"; /* sound, but the driver does not like it */
    fake_cuda.fail_at = cuda_ptx[0].module != NULL; /* after the PTX itself */
    fake_cuda.fail_code = 200;
    open_card();
    close_card();
    cr_assert_eq(fake_cuda.compiled, 4);
    find_file(path, sizeof path);
}

Test(cuda, a_cache_that_cannot_be_written_is_done_without)
{
    setenv("XDG_CACHE_HOME", "/dev/null/nowhere", 1);
    open_card();
    close_card();
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    open_card();
    close_card();
    cr_assert_eq(fake_cuda.compiled, 2);
}

/* One text serves cards without and with dependent launch. */
Test(cuda, ptx_is_for_the_card)
{
    if (!cuda_ptx[0].module)
        cr_skip_test("this build has no PTX");
    open_card();
    close_card();
    cr_assert_str_eq(fake_cuda.target, "sm_90");
    cr_assert(fake_cuda.waits);
    fake_cuda_reset();
    fake_cuda.major = 8;
    fake_cuda.minor = 9;
    open_card();
    close_card();
    cr_assert_str_eq(fake_cuda.target, "sm_80");
    cr_assert_not(fake_cuda.waits);
}

/* A driver older than the embedded PTX, and a card older than it, get their code from NVRTC. */
Test(cuda, nvrtc_compiles_what_ptx_cannot)
{
    fake_cuda.no_ptx = true;
    open_card();
    close_card();
    cr_assert(strstr(fake_cuda.options, "--gpu-architecture=sm_90 "), "%s", fake_cuda.options);
    cr_assert_null(strstr(fake_cuda.options, "GPU_TYPED"));
    fake_cuda_reset();
    fake_cuda.major = 7;
    fake_cuda.minor = 5;
    open_card();
    close_card();
    cr_assert(strstr(fake_cuda.options, "--gpu-architecture=sm_75 "), "%s", fake_cuda.options);
}

Test(cuda, profile_times_operators)
{
    open_card();
    struct gpu_memory *m = memory(64);
    double seconds[OPERATOR_COUNT];
    driver->profile(state, seconds);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(run_list(m, 0, 1, NULL), KERNELS);
    cr_assert_eq(fake_cuda.graphs, 0);
    driver->profile(state, seconds);
    cr_assert_float_eq(seconds[0], 3 * KERNELS * 1e-3, 1e-6); /* the steps say operator 0 */
    driver->profile(state, seconds);
    cr_assert_eq(seconds[0], 0);
    driver->free(state, m);
    close_card();
}
