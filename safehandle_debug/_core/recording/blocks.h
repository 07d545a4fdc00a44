/* The recording's blocks: taking, lending and recycling them.
 *
 * Any thread may call, with or without the GIL, while it is marked as inside
 * the recorder (thread.h).  No locks: a thread that dies in the middle costs a
 * block, nothing else. */
#ifndef SHD_BLOCKS_H
#define SHD_BLOCKS_H

#include "recorder.h"

/* Room for the account of so many blocks; 0, or errno.  Before
 * shd_blocks_begin(). */
int shd_blocks_prepare(uint32_t capacity);

/* A new recording: all its blocks are free, `backed` of them secured. */
void shd_blocks_begin(uint32_t capacity, uint32_t backed);

/* A block of one's own, or NULL when there is none. */
shd_block_head *shd_blocks_take(int type, uint32_t thread);

/* Nobody writes into this EVENTS block any more: recycled in its turn. */
void shd_blocks_retire(shd_block_head *block);

/* A PINNED, STACKS or DATA block with room for `size` more, as `committed`
 * counts, lent to the calling thread alone; NULL when there is none. */
shd_block_head *shd_blocks_borrow(int type, uint32_t size);
void shd_blocks_put_back(int type, shd_block_head *block);

/* The slots of the block of LIVE slots with this number, from 0, which is made
 * if need be; NULL when there is no room. */
shd_live *shd_blocks_live(uint32_t index);

/* errno of a growth that failed, or 0. */
int shd_blocks_disk_full(void);

#endif
