/* Available memory on Linux and macOS, and what of it is taken. */
#include "host_memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "engine.h"

/* A decimal number that follows `label` in a file of lines; false where there is none ("max"). */
static bool read_number(const char *path, const char *label, uint64_t *out)
{
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char line[256], format[64];
    bool found = false;
    snprintf(format, sizeof format, "%s %%%s", label, SCNu64);
    while (!found && fgets(line, sizeof line, file)) found = sscanf(line, format, out) == 1;
    fclose(file);
    return found;
}

uint64_t host_memory_available(void)
{
    uint64_t available, limit, used;
    if (read_number("/proc/meminfo", "MemAvailable:", &available)) {
        available = available <= UINT64_MAX / 1024 ? available * 1024 : available;
    } else {
        long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
        available = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 2 : (uint64_t)1 << 30;
    }
    if (read_number("/sys/fs/cgroup/memory.max", "", &limit) &&
        read_number("/sys/fs/cgroup/memory.current", "", &used)) {
        uint64_t rest = limit > used ? limit - used : 0;
        if (rest < available) available = rest;
    }
    return available;
}

uint64_t host_memory_total(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t total = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : (uint64_t)2 << 30, limit;
    return read_number("/sys/fs/cgroup/memory.max", "", &limit) && limit < total ? limit : total;
}

static uint64_t read_kilobytes(const char *label)
{
    uint64_t value;
    return read_number("/proc/self/status", label, &value) && value <= UINT64_MAX / 1024 ? value * 1024 : 0;
}

void engine_memory(struct engine_memory *out)
{
    *out = (struct engine_memory){.resident = read_kilobytes("VmRSS:"),
                                  .anonymous = read_kilobytes("RssAnon:"),
                                  .peak = read_kilobytes("VmHWM:")};
}
