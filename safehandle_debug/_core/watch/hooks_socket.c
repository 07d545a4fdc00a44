/* Sockets: made, accepted, received, used. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks_use.h"

#include <string.h>
#include <sys/socket.h>

typedef ssize_t recv_chk_function(int fd, void *buffer, size_t size,
                                  size_t room, int flags);
typedef ssize_t recvfrom_chk_function(int fd, void *buffer, size_t size,
                                      size_t room, int flags,
                                      struct sockaddr *address,
                                      socklen_t *length);

SHD_REAL(socket);
SHD_REAL(socketpair);
SHD_REAL(accept);
SHD_REAL(accept4);
SHD_REAL(recvmsg);
SHD_REAL(recvmmsg);
SHD_REAL(sendmsg);
SHD_REAL(sendmmsg);
SHD_REAL(shutdown);
SHD_REAL(send);
SHD_REAL(recv);
SHD_REAL(sendto);
SHD_REAL(recvfrom);
SHD_REAL(getsockname);
SHD_REAL(getpeername);
SHD_REAL(getsockopt);
SHD_REAL(setsockopt);
SHD_REAL(bind);
SHD_REAL(connect);
SHD_REAL(listen);
static recv_chk_function *real___recv_chk;
static recvfrom_chk_function *real___recvfrom_chk;

static int
hook_socket(int domain, int type, int protocol)
{
    SHD_CREATE(real_socket(domain, type, protocol), SHD_FD_SOCKET, NULL);
}

static int
hook_socketpair(int domain, int type, int protocol, int ends[2])
{
    int result = real_socketpair(domain, type, protocol, ends);
    if (shd_watch_asleep()) {
        return result;
    }
    if (SHD_UNLIKELY(result == -1) && shd_hook_retry(SHD_HERE)) {
        result = real_socketpair(domain, type, protocol, ends);
    }
    if (result == 0) {
        shd_watch_opened(ends[0], SHD_FD_SOCKET, NULL, SHD_HERE);
        shd_watch_opened(ends[1], SHD_FD_SOCKET, NULL, SHD_HERE);
    }
    return result;
}

/* A connection that found no number stays in the queue. */
#define ACCEPT(call, listener, told)                                          \
    do {                                                                      \
        if (shd_watch_asleep()) {                                             \
            return (call);                                                    \
        }                                                                     \
        int began = shd_hook_begin_wait(listener);                            \
        int accepted = (call);                                                \
        if (SHD_UNLIKELY(accepted < 0) && shd_hook_retry(SHD_HERE)) {         \
            accepted = (call);                                                \
        }                                                                     \
        shd_hook_end_wait(began);                                             \
        if (accepted >= 0) {                                                  \
            shd_watch_opened(accepted, SHD_FD_SOCKET, NULL, SHD_HERE);        \
        }                                                                     \
        else if (errno == EBADF) {                                            \
            shd_hook_bad(listener, told, SHD_HERE);                           \
        }                                                                     \
        return accepted;                                                      \
    } while (0)

static int
hook_accept(int fd, struct sockaddr *address, socklen_t *length)
{
    ACCEPT(real_accept(fd, address, length), fd, "accept");
}

static int
hook_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    ACCEPT(real_accept4(fd, address, length, flags), fd, "accept4");
}

static int
hook_shutdown(int fd, int how)
{
    int result = real_shutdown(fd, how);
    if (shd_watch_asleep()) {
        return result;
    }
    if (result == 0) {
        shd_watch_shut_down(fd);
    }
    else if (errno == EBADF) {
        shd_hook_bad(fd, "shutdown", SHD_HERE);
    }
    return result;
}

/* --- descriptors in messages ------------------------------------------------- */

/* How many descriptors a control message carries; `data`: where they are. */
static size_t
carried(const struct cmsghdr *control, const unsigned char **data)
{
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS
        || control->cmsg_len < CMSG_LEN(0)) {
        return 0;
    }
    *data = CMSG_DATA(control);
    return (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
}

static int
carried_number(const unsigned char *data, size_t index)
{
    int fd;
    memcpy(&fd, data + index * sizeof(fd), sizeof(fd));
    return fd;
}

void
shd_hook_received(const struct msghdr *message, const void *caller)
{
    struct msghdr *whole = (struct msghdr *)message;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(whole); each != NULL;
         each = CMSG_NXTHDR(whole, each)) {
        const unsigned char *data = NULL;
        size_t count = carried(each, &data);
        for (size_t i = 0; i < count; i++) {
            shd_watch_opened(carried_number(data, i), SHD_FD_UNKNOWN, NULL,
                             caller);
        }
    }
}

/* The first of the descriptors in a message that is parked, or, asked for all
 * that are closed, is closed; -1: none. */
static int
dead_in(const struct msghdr *message, int parked_only)
{
    if (message == NULL || message->msg_control == NULL) {
        return -1;
    }
    struct msghdr *whole = (struct msghdr *)message;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(whole); each != NULL;
         each = CMSG_NXTHDR(whole, each)) {
        const unsigned char *data = NULL;
        size_t count = carried(each, &data);
        for (size_t i = 0; i < count; i++) {
            int fd = carried_number(data, i);
            if (parked_only ? shd_watch_is_parked(fd) : shd_hook_is_dead(fd)) {
                return fd;
            }
        }
    }
    return -1;
}

int
shd_hook_may_send(const struct msghdr *message, const void *caller)
{
    int fd = dead_in(message, 1);
    return fd < 0 || shd_hook_may_use(fd, "sendmsg", caller);
}

void
shd_hook_bad_message(int fd, const struct msghdr *message, const void *caller)
{
    if (!shd_watch_asleep()) {
        shd_hook_bad_of_two(fd, dead_in(message, 0), "sendmsg", caller);
    }
}

static ssize_t
hook_recvmsg(int fd, struct msghdr *message, int flags)
{
    if (shd_watch_asleep()) {
        return real_recvmsg(fd, message, flags);
    }
    int began = shd_hook_begin_wait(fd);
    ssize_t result = real_recvmsg(fd, message, flags);
    shd_hook_end_wait(began);
    if (result >= 0) {
        shd_hook_received(message, SHD_HERE);
    }
    else if (errno == EBADF) {
        shd_hook_bad(fd, "recvmsg", SHD_HERE);
    }
    return result;
}

static int
hook_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
              struct timespec *timeout)
{
    if (shd_watch_asleep()) {
        return real_recvmmsg(fd, messages, count, flags, timeout);
    }
    int began = shd_hook_begin_wait(fd);
    int result = real_recvmmsg(fd, messages, count, flags, timeout);
    shd_hook_end_wait(began);
    for (int i = 0; i < result; i++) {
        shd_hook_received(&messages[i].msg_hdr, SHD_HERE);
    }
    if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
        shd_hook_bad(fd, "recvmmsg", SHD_HERE);
    }
    return result;
}

static ssize_t
hook_sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (!shd_watch_asleep() && !shd_hook_may_send(message, SHD_HERE)) {
        return -1;
    }
    ssize_t result = real_sendmsg(fd, message, flags);
    if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
        shd_hook_bad_message(fd, message, SHD_HERE);
    }
    return result;
}

static int
hook_sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    if (!shd_watch_asleep() && messages != NULL) {
        for (unsigned int i = 0; i < count; i++) {
            if (!shd_hook_may_send(&messages[i].msg_hdr, SHD_HERE)) {
                return -1;
            }
        }
    }
    int result = real_sendmmsg(fd, messages, count, flags);
    if (SHD_UNLIKELY(result == -1) && errno == EBADF) {
        shd_hook_bad(fd, "sendmmsg", SHD_HERE);
    }
    return result;
}

/* --- use ------------------------------------------------------------------------ */

SHD_USE(ssize_t, send, "send", fd,
        (int fd, const void *data, size_t size, int flags),
        (fd, data, size, flags))
SHD_USE(ssize_t, sendto, "sendto", fd,
        (int fd, const void *data, size_t size, int flags,
         const struct sockaddr *address, socklen_t length),
        (fd, data, size, flags, address, length))
SHD_WAITING_USE(ssize_t, recv, "recv", fd,
                (int fd, void *buffer, size_t size, int flags),
                (fd, buffer, size, flags))
SHD_WAITING_USE(ssize_t, __recv_chk, "recv", fd,
                (int fd, void *buffer, size_t size, size_t room, int flags),
                (fd, buffer, size, room, flags))
SHD_WAITING_USE(ssize_t, recvfrom, "recvfrom", fd,
                (int fd, void *buffer, size_t size, int flags,
                 struct sockaddr *address, socklen_t *length),
                (fd, buffer, size, flags, address, length))
SHD_WAITING_USE(ssize_t, __recvfrom_chk, "recvfrom", fd,
                (int fd, void *buffer, size_t size, size_t room, int flags,
                 struct sockaddr *address, socklen_t *length),
                (fd, buffer, size, room, flags, address, length))
SHD_USE(int, getsockname, "getsockname", fd,
        (int fd, struct sockaddr *address, socklen_t *length),
        (fd, address, length))
SHD_USE(int, getpeername, "getpeername", fd,
        (int fd, struct sockaddr *address, socklen_t *length),
        (fd, address, length))
SHD_USE(int, getsockopt, "getsockopt", fd,
        (int fd, int level, int option, void *value, socklen_t *size),
        (fd, level, option, value, size))
SHD_USE(int, setsockopt, "setsockopt", fd,
        (int fd, int level, int option, const void *value, socklen_t size),
        (fd, level, option, value, size))
SHD_USE(int, bind, "bind", fd,
        (int fd, const struct sockaddr *address, socklen_t length),
        (fd, address, length))
SHD_USE(int, connect, "connect", fd,
        (int fd, const struct sockaddr *address, socklen_t length),
        (fd, address, length))
SHD_USE(int, listen, "listen", fd, (int fd, int backlog), (fd, backlog))

const shd_hook shd_socket_hooks[] = {
    SHD_HOOK(socket),
    SHD_HOOK(socketpair),
    SHD_HOOK(accept),
    SHD_HOOK(accept4),
    SHD_HOOK(recvmsg),
    SHD_HOOK(recvmmsg),
    SHD_HOOK(sendmsg),
    SHD_HOOK(sendmmsg),
    SHD_HOOK(shutdown),
    SHD_HOOK(send),
    SHD_ALIAS(__send, send),
    SHD_HOOK(sendto),
    SHD_HOOK(recv),
    SHD_HOOK(__recv_chk),
    SHD_HOOK(recvfrom),
    SHD_HOOK(__recvfrom_chk),
    SHD_HOOK(getsockname),
    SHD_HOOK(getpeername),
    SHD_HOOK(getsockopt),
    SHD_HOOK(setsockopt),
    SHD_HOOK(bind),
    SHD_HOOK(connect),
    SHD_ALIAS(__connect, connect),
    SHD_HOOK(listen),
    {0},
};
