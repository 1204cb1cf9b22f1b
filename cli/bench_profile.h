/* What `hearth bench --profile` shows. */
#ifndef HEARTH_CLI_BENCH_PROFILE_H
#define HEARTH_CLI_BENCH_PROFILE_H

#include "../engine/engine.h"

void bench_profile_print(const struct engine_bench *, const struct engine_bench_result *);
json_t *bench_profile_json(const struct engine_bench_result *); /* the caller's */

#endif
