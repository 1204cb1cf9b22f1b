/* Messages to the service manager, systemd's sd_notify protocol: a datagram to $NOTIFY_SOCKET. Without one
 * they go nowhere. */
#ifndef HEARTH_NOTIFY_H
#define HEARTH_NOTIFY_H

/* "READY=1", or several lines. */
void notify_send(const char *message);
/* How long the manager waits for a WATCHDOG=1, in seconds; 0: it does not. */
double notify_watchdog_seconds(void);

#endif
