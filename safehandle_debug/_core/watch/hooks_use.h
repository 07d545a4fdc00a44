/* How calls that use a descriptor are hooked: libc's function, and a look at
 * what came back. */
#ifndef SHD_HOOKS_USE_H
#define SHD_HOOKS_USE_H

#include "hooks.h"

/* hook_NAME; `told` is what reports call it, `fd` the parameter in question.
 */
#define SHD_USE(type, name, told, fd, parameters, arguments)                  \
    static type hook_##name parameters                                        \
    {                                                                         \
        type result = real_##name arguments;                                  \
        if (SHD_UNLIKELY(result == -1) && errno == EBADF) {                   \
            shd_hook_bad(fd, told, SHD_HERE);                                 \
        }                                                                     \
        return result;                                                        \
    }

/* The same for a call that may wait for long.  Calls that a signal handler
 * makes are not among them: it would end what its thread was waiting for. */
#define SHD_WAITING_USE(type, name, told, fd, parameters, arguments)          \
    static type hook_##name parameters                                        \
    {                                                                         \
        if (shd_watch_asleep()) {                                             \
            return real_##name arguments;                                     \
        }                                                                     \
        int began = shd_hook_begin_wait(fd);                                  \
        type result = real_##name arguments;                                  \
        shd_hook_end_wait(began);                                             \
        if (SHD_UNLIKELY(result == -1) && errno == EBADF) {                   \
            shd_hook_bad(fd, told, SHD_HERE);                                 \
        }                                                                     \
        return result;                                                        \
    }

/* The same for a call on two descriptors. */
#define SHD_USE_TWO(type, name, told, one, other, parameters, arguments)      \
    static type hook_##name parameters                                        \
    {                                                                         \
        type result = real_##name arguments;                                  \
        if (SHD_UNLIKELY(result == -1) && errno == EBADF) {                   \
            shd_hook_bad_of_two(one, other, told, SHD_HERE);                  \
        }                                                                     \
        return result;                                                        \
    }

/* A call that returns the error. */
#define SHD_USE_RETURNING(name, told, fd, parameters, arguments)              \
    static int hook_##name parameters                                         \
    {                                                                         \
        int error = real_##name arguments;                                    \
        if (SHD_UNLIKELY(error == EBADF)) {                                   \
            shd_hook_bad(fd, told, SHD_HERE);                                 \
        }                                                                     \
        return error;                                                         \
    }

/* A call that would succeed on a parked number, or fail otherwise.  `path`:
 * below the folder `fd`, or NULL. */
#define SHD_GUARDED_USE(type, name, fd, path, parameters, arguments)          \
    static type hook_##name parameters                                        \
    {                                                                         \
        if (shd_watch_asleep()) {                                             \
            return real_##name arguments;                                     \
        }                                                                     \
        if (!shd_hook_may_use_in(fd, path, #name, SHD_HERE)) {                \
            return -1;                                                        \
        }                                                                     \
        type result = real_##name arguments;                                  \
        if (SHD_UNLIKELY(result == -1) && errno == EBADF) {                   \
            shd_hook_bad(fd, #name, SHD_HERE);                                \
        }                                                                     \
        return result;                                                        \
    }

/* ... and is how programs ask whether a number is open: never a finding. */
#define SHD_PROBE(name, fd, path, parameters, arguments)                      \
    static int hook_##name parameters                                         \
    {                                                                         \
        if (!shd_watch_asleep() && !shd_hook_may_probe(fd, path, SHD_HERE)) { \
            return -1;                                                        \
        }                                                                     \
        return real_##name arguments;                                         \
    }

#endif
