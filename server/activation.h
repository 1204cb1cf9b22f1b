/* Listening sockets that the service manager has opened and hands over, so that a restart refuses nobody:
 * from systemd (LISTEN_FDS) or launchd (the entry "Listeners" under Sockets). */
#ifndef HEARTH_ACTIVATION_H
#define HEARTH_ACTIVATION_H

#include "../kernels/err.h"

/* Puts the descriptors, which are the caller's, into fds[room]; returns how many, 0 for none, or an error for
 * those that nobody can listen on. They close on exec. To be called once. */
int activation_sockets(int *fds, int room, struct err *) WARN_UNUSED;

#endif
