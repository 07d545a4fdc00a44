/* The recording: what one process writes while it runs, and what every reader
 * sees, live or long after the process died.
 *
 *   +--------+---------+---------+---------+--
 *   | header | block 0 | block 1 | block 2 |  ...  up to header.file_size
 *   | 4 KiB  | 64 KiB  |         |         |
 *   +--------+---------+---------+---------+--
 *
 * The file is sparse and mapped MAP_SHARED by its one writer process; whatever
 * has been stored survives SIGKILL.  A block belongs to one type:
 *
 *   EVENTS   records of one thread, oldest first.  The owner thread writes a
 *            record, then stores `committed` with release order: a reader that
 *            loads `committed` with acquire order never sees a torn record.
 *            The oldest blocks without an owner are recycled when the file is
 *            full; `generation` is odd while that happens.
 *   PINNED   like EVENTS, but only for events that are findings by themselves;
 *            never recycled.
 *   LIVE     slots of the handles that are open now; a slot's `version` is odd
 *            while it changes.  Never recycled: an open handle always keeps
 *            its acquire stack.
 *   STACKS   nodes of the stack tree.  A stack's id is its innermost node's
 *            file offset / 16; a parent's depth is one less than its child's.
 *   DATA     records {DataHead, payload}, 8-aligned.  An id is the record's
 *            file offset / 8.
 *
 * All integers are in the byte order of the machine that wrote them (the magic
 * tells); times are ticks, converted with the header's anchors.
 * `recording/format.py` mirrors this file; a test holds the two equal. */
#ifndef SHD_FORMAT_H
#define SHD_FORMAT_H

#include <stdint.h>

#define SHD_MAGIC "SHDREC\r\n"
#define SHD_VERSION 2
#define SHD_HEADER_SIZE 4096
/* The one word that readers write, in the header's page behind the header:
 * counted up by one who asks the process who holds its handles. */
#define SHD_ASK_OFFSET 4088
#define SHD_BLOCK_SIZE 65536
#define SHD_BLOCK_HEAD_SIZE 64
#define SHD_BYTE_ORDER_MARK 0x01020304u
#define SHD_STATUS_UNKNOWN (-1) /* exit_code of a process that ended */

enum shd_block_type {
    SHD_BLOCK_FREE = 0,
    SHD_BLOCK_EVENTS = 1,
    SHD_BLOCK_PINNED = 2,
    SHD_BLOCK_LIVE = 3,
    SHD_BLOCK_STACKS = 4,
    SHD_BLOCK_DATA = 5,
};

enum shd_level {
    SHD_LEVEL_OFF = 0,
    SHD_LEVEL_SAMPLED = 1,
    SHD_LEVEL_FULL = 2,
};

enum shd_ended {
    SHD_ENDED_RUNNING = 0, /* or killed: the reader looks for the process */
    SHD_ENDED_EXIT = 1,    /* `exit_code` holds the status */
    SHD_ENDED_SIGNAL = 2,  /* `exit_code` holds the signal number */
    SHD_ENDED_STOPPED = 3, /* recording was stopped; the process went on */
};

/* What happened.  `refs` in an event is the count after it. */
enum shd_event_kind {
    SHD_EVENT_ACQUIRE = 1, /* the handle came to be; value = raw value */
    SHD_EVENT_ADD_REF = 2,
    SHD_EVENT_RELEASE = 3,    /* dropped a reference; the handle lives on */
    SHD_EVENT_CLOSE = 4,      /* given back; `ending` says how */
    SHD_EVENT_DISPOSE = 5,    /* close asked for, references still out */
    SHD_EVENT_INVALIDATE = 6, /* set_handle_as_invalid: not given back */
    SHD_EVENT_SET_VALUE = 7,  /* set_handle over a live value (= old one) */
    SHD_EVENT_DOUBLE_RELEASE = 8,  /* released with no reference to release */
    SHD_EVENT_USE_CLOSED = 9,      /* add-ref refused: closed */
    SHD_EVENT_RELEASE_FAILED = 10, /* value = errno or 0; `detail` says why */
    SHD_EVENT_DOUBLE_OWNER = 11,   /* value = serial of the other owner */
    SHD_EVENT_OVERFLOW = 12,       /* add-ref refused: 2^30 references */
    SHD_EVENT_OWNED = 13,          /* an owner took it over: `type` is new */
    SHD_EVENT_DISOWNED = 14, /* its owner let go of it: `type` is raw again */
    SHD_EVENT_CLOSED_BEHIND =
        15,                   /* by another than its owner; `detail`: how */
    SHD_EVENT_RECYCLED = 16,  /* a stale number was used that another
                                     handle has or, with PREVENTED, would have:
                                     value = its serial; `detail`: how */
    SHD_EVENT_EXHAUSTED = 17, /* EMFILE; serial 0, value = the limit */
};

enum shd_ending {
    SHD_ENDING_NONE = 0,
    SHD_ENDING_CLOSED = 1,
    SHD_ENDING_EXITED = 2,
    SHD_ENDING_DROPPED = 3,
    SHD_ENDING_COLLECTED = 4,
    SHD_ENDING_SWEPT = 5,
    SHD_ENDING_TRANSFERRED = 6,
    SHD_ENDING_INHERITED = 7,
    SHD_ENDING_LOST = 8, /* never written: the reader's word */
};

enum shd_flag {
    SHD_FLAG_BORROWED = 1,    /* owns_handle was false */
    SHD_FLAG_FINALIZER = 2,   /* done by a finalizer, not by the program */
    SHD_FLAG_IN_GC = 4,       /* during a collection of the cyclic collector */
    SHD_FLAG_FINALIZING = 8,  /* while the interpreter was ending */
    SHD_FLAG_INHERITED = 16,  /* the handle was acquired before a fork */
    SHD_FLAG_IMPORTING = 32,  /* acquired while a module was being imported */
    SHD_FLAG_UNSAMPLED = 64,  /* acquired while recording was off or sampled
                                out: the acquire event is a late one */
    SHD_FLAG_LATE = 128,      /* went round libc: seen at a checkpoint */
    SHD_FLAG_PREVENTED = 256, /* the number was parked: no harm was done */
    SHD_FLAG_STALE = 512,     /* by the bare number, after it was closed */
    SHD_FLAG_IN_USE = 1024,   /* closed while another thread waited on it */
};

enum shd_data_type {
    SHD_DATA_STRING = 1, /* UTF-8, no terminator */
    SHD_DATA_CODE = 2,   /* shd_code + line table */
    SHD_DATA_TYPE = 3,   /* shd_type */
    SHD_DATA_THREAD = 4, /* shd_thread_record */
};

typedef struct {
    uint64_t ticks;
    int64_t monotonic_ns;
    int64_t realtime_ns;
} shd_anchor;

/* Written by the owner process only.  Counters grow; a reader may see one
 * newer than another. */
typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t byte_order_mark;
    uint32_t header_size;
    uint32_t block_size;
    uint64_t file_size; /* bound, bytes */
    uint32_t pid;
    uint32_t parent_pid;
    uint64_t start_ticks;    /* field 22 of /proc/PID/stat */
    char boot_id[40];        /* /proc/sys/kernel/random/boot_id */
    uint32_t python_version; /* PY_VERSION_HEX */
    uint32_t level;
    uint32_t frames;     /* least number of frames a stack keeps */
    uint32_t sample;     /* one handle in `sample` is recorded */
    uint32_t meta;       /* STRING id: JSON, see recording/format.py */
    uint32_t clock;      /* 0: ticks are ns of CLOCK_MONOTONIC, 1: cycles */
    double ticks_per_ns; /* first estimate, used until second is set */
    shd_anchor first;    /* taken when recording started */
    shd_anchor second;   /* latest; valid when second_version is even > 0 */
    uint32_t second_version;
    uint32_t ended; /* shd_ended; written last */
    int32_t exit_code;
    uint32_t blocks; /* blocks in use so far */
    uint64_t ended_ticks;
    uint64_t inherited_serials; /* handles up to here came from the parent */
    uint64_t newest_serial;
    uint64_t next_seq; /* seq of the next event */
    uint64_t dropped_events;
    uint64_t dropped_live;
    uint64_t dropped_stacks;
    uint64_t dropped_data;
    uint64_t live;           /* handles open now, recorded or not */
    uint64_t finalizing_seq; /* next_seq when the interpreter began to end */
    int32_t error;           /* errno of the last failed growth, or 0 */
    uint32_t live_slots;     /* LIVE slots in use so far */
    uint32_t watch;          /* 1: descriptors of all code were watched */
    uint32_t abrupt; /* 1: ended by _exit or exec; nothing was torn down */
    uint64_t bare;   /* watched descriptors open without an event (sampled,
                        not armed yet) */
} shd_header;

typedef struct {
    uint32_t type;       /* shd_block_type */
    uint32_t generation; /* odd while the block is being recycled */
    uint32_t committed;  /* EVENTS: records; others: bytes after the head */
    uint32_t thread;     /* EVENTS: THREAD id of the owner, 0 without owner */
    uint64_t first_seq;  /* EVENTS: seq of the first record */
    uint32_t index;      /* LIVE: number of its first slot */
    uint32_t reserved[9];
} shd_block_head;

typedef struct {
    uint64_t seq; /* order of events in the process, from 1 */
    uint64_t ticks;
    uint64_t serial;
    int64_t value;
    uint32_t stack;  /* 0: none */
    uint32_t thread; /* THREAD id */
    uint32_t task;   /* STRING id of the asyncio task's name, 0: none, or not
                        known yet: the one field that is filled in later */
    uint32_t test;   /* STRING id of the running test, 0: none */
    uint32_t detail; /* STRING id (path, reason), 0: none */
    uint32_t type;   /* TYPE id */
    uint32_t refs;
    uint8_t kind;   /* shd_event_kind */
    uint8_t ending; /* shd_ending */
    uint16_t flags; /* shd_flag */
} shd_event;

typedef struct {
    uint64_t serial; /* 0: slot is free */
    uint64_t ticks;  /* acquired at */
    int64_t value;
    uint32_t stack;
    uint32_t thread;
    uint32_t task;
    uint32_t test;
    uint32_t detail;
    uint32_t type;
    uint32_t refs; /* as of the last recorded event */
    uint32_t flags;
    uint32_t version;    /* odd while the slot changes */
    uint32_t last_stack; /* of the last recorded event */
} shd_live;

typedef struct {
    uint32_t parent; /* caller's stack id, 0 for the outermost kept frame */
    uint32_t code;   /* CODE id */
    uint32_t lasti;  /* byte offset of the instruction */
    uint32_t depth;  /* nodes from the outermost kept frame, from 1 */
} shd_stack_node;

typedef struct {
    uint32_t size; /* of the payload, without padding */
    uint16_t type; /* shd_data_type */
    uint16_t flags;
} shd_data_head;

typedef struct {
    uint32_t filename; /* STRING id */
    uint32_t qualname; /* STRING id */
    int32_t firstlineno;
    uint32_t linetable_size; /* bytes of co_linetable that follow */
} shd_code;

typedef struct {
    uint32_t name;  /* STRING id: class name */
    uint32_t kind;  /* STRING id: "file", "pipe", ... */
    uint32_t space; /* STRING id: handles of one space share numbers ("fd") */
    uint32_t reserved;
} shd_type;

typedef struct {
    uint64_t ident;  /* threading.get_ident() */
    uint32_t native; /* gettid() */
    uint32_t name;   /* STRING id; 0 while nobody could be asked for it */
} shd_thread_record;

#define SHD_EVENTS_A_BLOCK                                                    \
    ((SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE) / sizeof(shd_event))
#define SHD_LIVE_A_BLOCK                                                      \
    ((SHD_BLOCK_SIZE - SHD_BLOCK_HEAD_SIZE) / sizeof(shd_live))

_Static_assert(sizeof(shd_header) <= SHD_ASK_OFFSET, "header fits its page");
_Static_assert(sizeof(shd_block_head) == SHD_BLOCK_HEAD_SIZE, "block head");
_Static_assert(sizeof(shd_event) == 64, "an event is a cache line");
_Static_assert(sizeof(shd_live) == 64, "a live slot is a cache line");
_Static_assert(sizeof(shd_stack_node) == 16, "a stack id is offset / 16");

#endif
