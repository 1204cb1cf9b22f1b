/* Who asks, how long they wait, and when to come again. */
#include "admission.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RETRY_MAX = 600, DEADLINE_MS_MAX = 86400000 };

/* FNV-1a. */
static uint64_t mix(uint64_t hash, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        hash = (hash ^ *at) * 0x100000001b3u;
    return (hash ^ 0xff) * 0x100000001b3u; /* 0xff is in no text */
}

int admission_read(struct admission *a, const struct http_request *http, struct api_error *error)
{
    const char *key = http_header(http, "Authorization"), *explain = http_header(http, "X-Cache-Explain");
    const char *deadline = http_header(http, "X-Deadline-Ms");
    *a = (struct admission){.key = mix(0xcbf29ce484222325u, key ? key : "")};
    a->explain = explain && strcmp(explain, "0") != 0;
    if (!deadline)
        return 0;
    char *end;
    errno = 0;
    long long ms = strtoll(deadline, &end, 10);
    if (end == deadline || *end || errno || ms < 1 || ms > DEADLINE_MS_MAX)
        return api_error_set(error, 400, "invalid_value", "X-Deadline-Ms",
                             "'X-Deadline-Ms' must be a number of milliseconds between 1 and %d.",
                             DEADLINE_MS_MAX);
    a->seconds = (double)ms / 1e3;
    return 0;
}

uint64_t admission_owner(const struct admission *a, const char *user)
{
    return mix(a->key, user ? user : "");
}

double admission_deadline(const struct admission *a, double timeout, uint64_t started)
{
    struct timespec now;
    double seconds = timeout > 0 && (a->seconds == 0 || timeout < a->seconds) ? timeout : a->seconds;
    if (seconds == 0)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9 + seconds - (double)(uv_hrtime() - started) / 1e9;
}

static int whole_seconds(double seconds)
{
    return !(seconds > 1) ? 1 : seconds > RETRY_MAX ? RETRY_MAX : (int)ceil(seconds);
}

int admission_retry(struct api *api)
{
    struct engine_status status = {0};
    double now = (double)uv_hrtime() / 1e9;
    engine_status(api->engine, &status);
    if (api->next_place < now)
        api->next_place = now;
    api->next_place = fmin(api->next_place + status.ends_seconds, now + RETRY_MAX);
    return whole_seconds(api->next_place - now);
}

int admission_wait(const struct api *api)
{
    struct engine_status status = {0};
    engine_status(api->engine, &status);
    return whole_seconds(status.begins_seconds);
}
