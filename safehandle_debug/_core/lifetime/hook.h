/* Python hooks of handles, and the errors that nobody is there to get. */
#ifndef SHD_HOOK_H
#define SHD_HOOK_H

#include "handle.h"

/* Frees what a native release would have needed beyond the value. */
void shd_hook_forget_extra(shd_handle *handle, void *extra);

/* Runs `release_handle()`, and frees `extra` unless the native release of a
 * base did; -1 with the hook's exception, where somebody is there to get it. */
int shd_hook_call(shd_handle *handle, int flags, void *extra);

/* Whether the last reference releases: 1, 0, or -1 with an exception. */
int shd_hook_decide(shd_handle *handle, int flags);

/* Reports the current exception as nobody's: there is no caller to get it. An
 * interrupt is not an error of the hook; it is delivered again. */
void shd_hook_report(shd_handle *handle, const char *method);

#endif
