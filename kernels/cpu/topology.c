/* Cores: counted and pinned by affinity mask on Linux, by performance level on macOS. */
#include "topology.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>

/* The first processor of each core that this process may run on; returns how many. */
static int physical_cores(int *first, int capacity)
{
    cpu_set_t allowed;
    int n = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && n < capacity; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        char path[96];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        int sibling = cpu, seen = 0;
        FILE *f = fopen(path, "r");
        if (f) {
            if (fscanf(f, "%d", &sibling) != 1)
                sibling = cpu;
            fclose(f);
        }
        for (int i = 0; i < n && !seen; i++)
            seen = first[i] == sibling;
        if (!seen)
            first[n++] = CPU_ISSET(sibling, &allowed) ? sibling : cpu;
    }
    return n;
}

/* Whole processors of a quota, but at least one. */
static int processors(double quota, double period)
{
    return quota < period ? 1 : (int)(quota / period);
}

/* Processors that a control group's quota comes to; 0: no quota there. */
static int quota_v2(const char *directory)
{
    char path[512];
    double quota, period;
    int n = 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", directory);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    if (fscanf(f, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0)
        n = processors(quota, period);
    fclose(f);
    return n;
}

static int quota_v1(void)
{
    double value[2] = {0, 0};
    static const char *const paths[2] = {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                                         "/sys/fs/cgroup/cpu/cpu.cfs_period_us"};
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(paths[i], "r");
        if (!f)
            return 0;
        if (fscanf(f, "%lf", &value[i]) != 1)
            value[i] = 0;
        fclose(f);
    }
    return value[0] > 0 && value[1] > 0 ? processors(value[0], value[1]) : 0;
}

/* The tightest quota from this process's group up to the root; 0: none. */
static int group_limit(void)
{
    char line[400] = "", *directory = line;
    int limit = quota_v1();
    FILE *f = fopen("/proc/self/cgroup", "r");
    if (f) {
        while (fgets(line, sizeof line, f))
            if (!strncmp(line, "0::/", 4))
                break;
        fclose(f);
    }
    directory = !strncmp(line, "0::/", 4) ? line + 3 : line;
    directory[strcspn(directory, "\n")] = '\0';
    for (;;) {
        int n = quota_v2(directory);
        if (n > 0 && (limit == 0 || n < limit))
            limit = n;
        char *slash = strrchr(directory, '/');
        if (!slash)
            return limit;
        *slash = '\0';
    }
}

int topology_threads(void)
{
    int first[CPU_SETSIZE], n = physical_cores(first, CPU_SETSIZE), limit = group_limit();
    if (n < 1)
        n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (limit > 0 && n > limit)
        n = limit;
    return n < 1 ? 1 : n;
}

void topology_enter(int thread)
{
    int first[CPU_SETSIZE], n = physical_cores(first, CPU_SETSIZE);
    if (thread >= n)
        return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first[thread], &one);
    sched_setaffinity(0, sizeof one, &one);
}

#elif defined(__APPLE__)
#include <pthread.h>
#include <sys/sysctl.h>

int topology_threads(void)
{
    int n = 0;
    size_t size = sizeof n;
    if (sysctlbyname("hw.perflevel0.physicalcpu", &n, &size, NULL, 0) != 0 || n < 1) {
        size = sizeof n;
        if (sysctlbyname("hw.physicalcpu", &n, &size, NULL, 0) != 0)
            n = 1;
    }
    return n < 1 ? 1 : n;
}

void topology_enter(int thread)
{
    (void)thread;
    pthread_set_qos_class_self_np(QOS_CLASS_USER_INTERACTIVE, 0);
}

#else

int topology_threads(void)
{
    int n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n;
}

void topology_enter(int thread)
{
    (void)thread;
}
#endif
