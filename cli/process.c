/* posix_spawn and waitpid in one call. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int process_run(const char *const *argv, enum process_output output, int *status, struct err *e)
{
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return err_set(e, ERR_NOMEM, "%s: no memory to start it", argv[0]);
    int failed = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!failed && output == PROCESS_SHOW)
        failed = posix_spawn_file_actions_adddup2(&actions, 2, 1);
    if (!failed && output == PROCESS_SILENT)
        failed = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    if (!failed && output == PROCESS_SILENT)
        failed = posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t pid;
    if (!failed)
        failed = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed)
        return err_set(e, failed == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", argv[0], strerror(failed));
    int how;
    while (waitpid(pid, &how, 0) < 0)
        if (errno != EINTR)
            return err_set(e, ERR_IO, "%s: %s", argv[0], strerror(errno));
    *status = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
    return 0;
}
