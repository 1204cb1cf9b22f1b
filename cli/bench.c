/* hearth bench: tokens per second, and how much of the memory's bandwidth that is. */
#include <string.h>

#include "bench_profile.h"
#include "commands.h"
#include "session.h"
#include "text.h"

enum { MOST_BATCHES = 16, MIB = 1 << 20 };

/* "1,8" → {1, 8}; the number of them, or a negative code. */
static int read_batches(const char *text, int *batch, struct err *e)
{
    int n = 0;
    for (const char *at = text;; at++) {
        char *end;
        long value = strtol(at, &end, 10);
        if (end == at || value < 1 || value > 1024 || (*end && *end != ',') || n == MOST_BATCHES)
            return err_set(e, ERR_INVALID, "--batch: '%s' is no list of up to %d numbers from 1 to 1024",
                           text, MOST_BATCHES);
        batch[n++] = (int)value;
        if (!*end)
            return n;
        at = end;
    }
}

struct figures {
    double decode_bytes;      /* per second, read for decoding */
    double bandwidth_percent; /* of what plain reading reaches */
};

static struct figures derive(const struct engine_bench *b, const struct engine_bench_result *r)
{
    struct figures f = {.decode_bytes = (r->weight_bytes + r->kv_bytes) * r->decode_tps / b->batch};
    f.bandwidth_percent = r->bandwidth > 0 ? 100 * f.decode_bytes / r->bandwidth : 0;
    return f;
}

/* One line of JSON per batch size. */
static void print_json(const struct session *s, const struct engine_bench *b,
                       const struct engine_bench_result *r, const struct engine_memory *memory)
{
    const struct model_info *info = engine_model_info(s->model);
    struct engine_status status;
    engine_status(s->engine, &status);
    struct figures f = derive(b, r);
    json_t *line = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, "
        "s:I, s:I}",
        "model", info->name, "quantization", info->quantization, "device", status.device,
        "prompt", b->prompt, "generate", b->generate, "batch", b->batch, "context", b->context,
        "repetitions", b->repetitions, "prefill_tps", r->prefill_tps,
        "prefill_tps_min", r->prefill_tps_min, "prefill_tps_max", r->prefill_tps_max,
        "decode_tps", r->decode_tps, "decode_tps_min", r->decode_tps_min, "decode_tps_max", r->decode_tps_max,
        "decode_gbs", f.decode_bytes / 1e9, "bandwidth_gbs", r->bandwidth / 1e9,
        "bandwidth_percent", f.bandwidth_percent, "load_seconds", info->load_seconds, "file_bytes",
        (json_int_t)info->file_bytes, "resident_bytes", (json_int_t)memory->resident, "anonymous_bytes",
        (json_int_t)memory->anonymous, "peak_bytes", (json_int_t)memory->peak);
    if (line && b->profile)
        json_object_set_new(line, "profile", bench_profile_json(r));
    char *text = line ? json_dumps(line, JSON_REAL_PRECISION(6)) : NULL;
    printf("%s\n", text ? text : "{}");
    fflush(stdout);
    free(text);
    json_decref(line);
}

static void print_row(const struct engine_bench *b, const struct engine_bench_result *r)
{
    struct figures f = derive(b, r);
    char prefill[48], decode[48];
    snprintf(prefill, sizeof prefill, "%.1f (%.1f-%.1f)", r->prefill_tps, r->prefill_tps_min,
             r->prefill_tps_max);
    snprintf(decode, sizeof decode, "%.1f (%.1f-%.1f)", r->decode_tps, r->decode_tps_min, r->decode_tps_max);
    printf("%5d  %-26s  %-26s  %7.1f  %5.0f %%\n", b->batch, b->prompt ? prefill : "-",
           b->generate ? decode : "-", f.decode_bytes / 1e9, f.bandwidth_percent);
    fflush(stdout);
}

static void print_head(const struct session *s, const struct engine_bench *b,
                       const struct engine_memory *memory)
{
    const struct model_info *info = engine_model_info(s->model);
    struct engine_status status;
    engine_status(s->engine, &status);
    printf("%s, %s, %s\nloaded in %.2f s; file %.0f MiB, in memory %.0f MiB (%.0f anonymous, at most %.0f)\n"
           "%d tokens of prefill, %d decode steps after %d tokens of context; median of %d "
           "(worst-best)\n\n"
           "batch  %-26s  %-26s  %7s  of what memory gives\n",
           info->name, info->quantization, status.device, info->load_seconds, (double)info->file_bytes / MIB,
           (double)memory->resident / MIB, (double)memory->anonymous / MIB, (double)memory->peak / MIB, b->prompt,
           b->generate, b->context, b->repetitions,
           "prefill t/s", "decode t/s", "GB/s");
}

/* Tokens per second of every batch first: profiling may slow the device from then on. */
static int run_batches(const struct session *s, const struct options *o, const int *batches, int n,
                       struct err *e)
{
    bool json = option_flag(o, OPTION_JSON), profile = option_flag(o, OPTION_PROFILE);
    struct engine_bench bench[MOST_BATCHES];
    struct engine_bench_result result[MOST_BATCHES];
    struct engine_memory memory;
    engine_memory(&memory);
    for (int i = 0; i < n; i++) {
        bench[i] = (struct engine_bench){
            .prompt = (int)option_integer(o, OPTION_PROMPT),
            .generate = (int)option_integer(o, OPTION_GENERATE),
            .context = (int)option_integer(o, OPTION_CONTEXT),
            .batch = batches[i],
            .repetitions = (int)option_integer(o, OPTION_REPS),
        };
        if (i == 0 && !json)
            print_head(s, &bench[i], &memory);
        int status = engine_bench_run(s->engine, s->model, &bench[i], &result[i], e);
        if (status < 0)
            return status;
        if (!json)
            print_row(&bench[i], &result[i]);
        else if (!profile)
            print_json(s, &bench[i], &result[i], &memory);
    }
    if (!json)
        printf("\nPlain reading of memory, in the same run: %.1f GB/s\n", result[n - 1].bandwidth / 1e9);
    for (int i = 0; i < n && profile; i++) {
        struct engine_bench_result profiled;
        bench[i].profile = true;
        int status = engine_bench_run(s->engine, s->model, &bench[i], &profiled, e);
        if (status < 0)
            return status;
        result[i].prefill = profiled.prefill;
        result[i].decode = profiled.decode;
        result[i].int8_rate = profiled.int8_rate;
        if (json)
            print_json(s, &bench[i], &result[i], &memory);
        else
            bench_profile_print(&bench[i], &result[i]);
    }
    return 0;
}

int command_bench(const struct options *o)
{
    struct err e;
    struct session s = {0};
    int batches[MOST_BATCHES], most = 1;
    int n = read_batches(option_text(o, OPTION_BATCH), batches, &e);
    for (int i = 0; i < n; i++)
        most = batches[i] > most ? batches[i] : most;
    int status = n < 0 ? n : session_open(&s, o, most, &e);
    if (status == 0)
        status = run_batches(&s, o, batches, n, &e);
    session_close(&s);
    return status < 0 ? text_fail(&e) : 0;
}
