/* hearth bench --profile: which operator takes how long, and how near it comes to the machine's limits. */
#include "bench_profile.h"

#include <math.h>

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

/* ---- JSON ---- */

static json_t *row_json(const struct engine_profile_row *row, double seconds,
                        const struct engine_bench_result *r)
{
    json_t *out = json_pack("{s:s, s:s?, s:f, s:f, s:f}", "operator", row->op, "stage", row->stage, "calls",
                            row->calls, "us", row->seconds * 1e6, "percent", percent(row->seconds, seconds));
    double bytes = row->bytes / row->seconds, operations = row->operations / row->seconds;
    if (row->bytes > 0) {
        json_object_set_new(out, "gbs", json_real(bytes / 1e9));
        json_object_set_new(out, "bandwidth_percent", json_real(percent(bytes, r->bandwidth)));
    }
    if (row->operations > 0)
        json_object_set_new(out, "gops", json_real(operations / 1e9));
    if (row->int8)
        json_object_set_new(out, "int8_percent", json_real(percent(operations, r->int8_rate)));
    return out;
}

static double host_seconds(const struct engine_profile *p)
{
    double rest = p->seconds;
    for (int i = 0; i < p->n; i++)
        rest -= p->row[i].seconds;
    return fmax(rest, 0); /* steps that were queued may overlap */
}

static json_t *profile_json(const struct engine_profile *p, const struct engine_bench_result *r)
{
    json_t *rows = json_array();
    for (int i = 0; i < p->n; i++)
        json_array_append_new(rows, row_json(&p->row[i], p->seconds, r));
    return json_pack("{s:f, s:f, s:f, s:o}", "us", p->seconds * 1e6, "waiting_us", p->waiting * 1e6, "host_us",
                     host_seconds(p) * 1e6, "rows", rows);
}

json_t *bench_profile_json(const struct engine_bench_result *r)
{
    json_t *out = json_pack("{s:f}", "int8_gops", r->int8_rate / 1e9);
    if (r->prefill.n)
        json_object_set_new(out, "prefill", profile_json(&r->prefill, r));
    if (r->decode.n)
        json_object_set_new(out, "decode", profile_json(&r->decode, r));
    return out;
}

/* ---- the table ---- */

/* A number, or a dash where there is none. */
static const char *shown(char text[16], double value, int decimals)
{
    if (value > 0)
        snprintf(text, 16, "%.*f", decimals, value);
    else
        snprintf(text, 16, "-");
    return text;
}

static void print_part(const struct engine_profile *p, const struct engine_bench_result *r)
{
    char text[5][16];
    printf("%-10s %-15s %6s %11s %7s %8s %7s %8s %7s\n", "operator", "stage", "calls", "us", "%", "GB/s",
           "% peak", "GOPS", "% peak");
    for (int i = 0; i < p->n; i++) {
        const struct engine_profile_row *row = &p->row[i];
        double bytes = row->bytes / row->seconds, operations = row->operations / row->seconds;
        printf("%-10s %-15s %6s %11.1f %7.1f %8s %7s %8s %7s\n", row->op,
               row->stage ? row->stage : "all of them", shown(text[0], row->calls, 0), row->seconds * 1e6,
               percent(row->seconds, p->seconds), shown(text[1], bytes / 1e9, 1),
               shown(text[2], percent(bytes, r->bandwidth), 0), shown(text[3], operations / 1e9, 1),
               shown(text[4], row->int8 ? percent(operations, r->int8_rate) : 0, 0));
    }
    printf("%-10s %-15s %6s %11.1f %7.1f\n", "host", "the rest", "", host_seconds(p) * 1e6,
           percent(host_seconds(p), p->seconds));
    printf("%-10s %-15s %6s %11.1f 100.0   of which waiting at barriers %.1f us\n", "", "together", "",
           p->seconds * 1e6, p->waiting * 1e6);
}

void bench_profile_print(const struct engine_bench *b, const struct engine_bench_result *r)
{
    if (r->prefill.n) {
        printf("\nPrefill of %d tokens:\n", b->prompt);
        print_part(&r->prefill, r);
    }
    if (r->decode.n) {
        printf("\nA decode step of %d sequence%s after %d tokens of context:\n", b->batch,
               b->batch > 1 ? "s" : "", b->context);
        print_part(&r->decode, r);
    }
    printf("\nPeaks: plain reading of memory %.1f GB/s; ", r->bandwidth / 1e9);
    if (r->int8_rate > 0)
        printf("the matrix kernel on 4-bit weights in cache %.0f int8 GOPS (2 x multiply-accumulate)\n",
               r->int8_rate / 1e9);
    else
        printf("arithmetic is not measured on this device\n");
    fflush(stdout);
}
