/* Tells systemd (Type=notify) how the service stands, without its library: one datagram to $NOTIFY_SOCKET. */
#ifndef IMAGINED_SERVER_NOTIFY_H
#define IMAGINED_SERVER_NOTIFY_H

/* "READY=1", "STOPPING=1". Does nothing where no service manager listens. */
void notify_service_manager(const char *state);

#endif
