/* Socket activation. */
#include "activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __APPLE__
#include <launch.h>
#endif

enum { FIRST = 3 }; /* systemd's descriptors follow standard error */

/* The name of socket i in "a:b:c". */
static int name_of(const char *names, int i, const char **name)
{
    for (; names && i > 0; i--) {
        names = strchr(names, ':');
        names = names ? names + 1 : NULL;
    }
    *name = names ? names : "";
    return (int)strcspn(*name, ":");
}

static bool option(int fd, int name, int wanted)
{
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 && value == wanted;
}

/* Of a kind that connections can be accepted from. */
static int check(int fd, const char *name, int length, struct err *err)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || !option(fd, SO_TYPE, SOCK_STREAM))
        return err_set(err, ERR_INVALID, "descriptor %d (%.*s) from the service manager is no stream socket",
                       fd, length, name);
    if (!option(fd, SO_ACCEPTCONN, 1))
        return err_set(err, ERR_INVALID,
                       "socket %d (%.*s) from the service manager does not listen (Accept=yes cannot be used)",
                       fd, length, name);
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_set(err, ERR_IO, "socket %d (%.*s) from the service manager: %s", fd, length, name,
                       strerror(errno));
    return 0;
}

static int from_systemd(int *fds, int room, struct err *err)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
    if (!pid || !count || strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    long n = strtol(count, NULL, 10);
    if (n < 0 || n > room)
        return err_set(err, ERR_INVALID, "%s sockets from the service manager: at most %d can be", count,
                       room);
    for (int i = 0; i < (int)n; i++) {
        const char *name;
        int length = name_of(names, i, &name), rc = check(FIRST + i, name, length, err);
        if (rc)
            return rc;
        fds[i] = FIRST + i;
    }
    unsetenv("LISTEN_PID"); /* nothing that this process starts is meant */
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return (int)n;
}

#ifdef __APPLE__
static int from_launchd(int *fds, int room, struct err *err)
{
    int *list = NULL, rc = 0;
    size_t n = 0;
    if (launch_activate_socket("Listeners", &list, &n)) /* not started by launchd, or without such an entry */
        return 0;
    if (n > (size_t)room)
        rc = err_set(err, ERR_INVALID, "%zu sockets from launchd: at most %d can be", n, room);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = check(list[i], "Listeners", 9, err);
        fds[i] = list[i];
    }
    free(list);
    return rc ? rc : (int)n;
}
#else
static int from_launchd(int *fds, int room, struct err *err)
{
    (void)fds, (void)room, (void)err;
    return 0;
}
#endif

int activation_sockets(int *fds, int room, struct err *err)
{
    int n = from_systemd(fds, room, err);
    return n ? n : from_launchd(fds, room, err);
}
