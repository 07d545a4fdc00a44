/* A folder's entries, read without libc's streams: no memory, no hooks. */
#ifndef SHD_LISTING_H
#define SHD_LISTING_H

/* Calls `each` with every name that is a number, until it returns nonzero; the
 * folder's own descriptor is left out.  The last answer, or -1 when the folder
 * cannot be read. */
int shd_listing(const char *folder, int (*each)(long number, void *arg),
                void *arg);

#endif
