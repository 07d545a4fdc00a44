/* Calls of native functions that hold the handles they pass.
 *
 * A NativeFunction is one C call from the interpreter's view: it takes a
 * reference of every handle among the arguments, makes the objects that will
 * own what comes back, calls, stores, and drops the references, with no
 * bytecode in between.  An interrupt comes before all of it or after.
 *
 *   call.c            the type, its arguments by position and name, the order
 *                     of things in a call
 *   call_define.c     from the tuples that describe a signature to these
 *                     structures
 *   call_arguments.c  each argument before the call, and the cleanup list
 *   call_results.c    what comes back, captured before anything can fail
 *   call_values.c     numbers of C, read and written
 *   call_abi.c        registers and stack
 *   call_cells.c      Out and Ref
 *   call_ctypes.c     handles in ctypes' own argtypes
 *   call_capi.c       the functions for other extensions
 */
#ifndef SHD_CALL_H
#define SHD_CALL_H

#include "lifetime/handle.h"

/* --- registers and stack (call_abi.c) --- */

/* A signature has at most so many words of arguments, so that even if all of
   them went to the stack there would be room. */
#define SHD_CALL_WORDS 16
#define SHD_CALL_DOUBLES 8
#if defined(__aarch64__)
#define SHD_CALL_INTS 8
#else
#define SHD_CALL_INTS 6
#endif

typedef struct {
    int64_t ints[SHD_CALL_INTS];
    double doubles[SHD_CALL_DOUBLES];
    int64_t words[SHD_CALL_WORDS]; /* on the stack */
    int int_count, double_count, word_count;
} shd_registers;

/* Whether native functions can be called on this platform. */
extern const int shd_call_possible;

void shd_registers_clear(shd_registers *to);
void shd_registers_int(shd_registers *to, int64_t value);
void shd_registers_double(shd_registers *to, double value);

/* A structure by value; `floats` has bit N set when the Nth 8 bytes hold
 * nothing but floating point numbers.  `image` is padded to whole words and
 * lives until after the call. */
void shd_registers_struct(shd_registers *to, unsigned char *image, size_t size,
                          unsigned int floats);

/* Call without the GIL; no Python. */
int64_t shd_registers_call(const shd_registers *from, void *address);
double shd_registers_call_double(const shd_registers *from, void *address);

/* --- numbers (call_values.c) --- */

/* Codes: ? b B h H i I q Q d f as in the module struct, P an address. */
size_t shd_code_size(char code); /* 0: unknown */
int shd_code_is_float(char code);

/* Reads and writes a number in memory; floating point by its bits. */
int64_t shd_code_load(char code, const void *from);
void shd_code_store(char code, void *to, int64_t bits);

/* `bits` cut to the width of `code`, and extended again. */
int64_t shd_code_narrow(char code, int64_t bits);

/* 0, or -1 with TypeError or OverflowError. */
int shd_code_from_python(char code, PyObject *object, int64_t *bits);
PyObject *shd_code_to_python(char code, int64_t bits);

/* --- signatures (call_define.c) --- */

enum shd_pass {
    SHD_PASS_VOID, /* results only */
    SHD_PASS_VALUE,
    SHD_PASS_BYTES,
    SHD_PASS_TEXT,
    SHD_PASS_BUFFER,
    SHD_PASS_CALLBACK,
    SHD_PASS_HANDLE,
    SHD_PASS_HANDLE_IN,
    SHD_PASS_HANDLE_REF,
    SHD_PASS_HANDLE_OUT,
    SHD_PASS_HANDLE_PAIR,
    SHD_PASS_VALUE_REF,
    SHD_PASS_VALUE_OUT,
    SHD_PASS_STRUCT,
    SHD_PASS_STRUCT_IN,
    SHD_PASS_STRUCT_REF,
};

typedef struct {
    PyObject *name;
    PyTypeObject *type; /* of the handle, NULL: a number */
    size_t offset;
    char code;
} shd_field;

typedef struct {
    PyObject *name;
    PyTypeObject *type;
    shd_field *fields;
    Py_ssize_t field_count;
    size_t size; /* of the structure */
    unsigned int floats;
    enum shd_pass pass;
    char code;
    char optional; /* None is NULL */
} shd_parameter;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *dict;
    PyObject *name;
    PyObject *defaults; /* tuple, of the last parameters */
    void *address;
    shd_parameter *parameters;
    Py_ssize_t count;
    Py_ssize_t work_count;
    size_t image_size;
    shd_parameter result;
    int check;
} shd_function;

/* Fills a parameter from (name, pass, code, type, optional, size, fields). */
int shd_parameter_fill(shd_parameter *to, PyObject *tuple);
void shd_parameter_clear(shd_parameter *parameter);
int shd_parameter_visit(const shd_parameter *parameter, visitproc visit,
                        void *arg);

/* Entries that the parameter needs in the cleanup list, and its share of the
 * memory for images. */
Py_ssize_t shd_parameter_works(const shd_parameter *parameter);
size_t shd_parameter_image(const shd_parameter *parameter);

/* --- the cleanup list (call_arguments.c) --- */

/* What has to be undone for one argument.  The handle itself is kept, not the
 * place it came from: a callback may put another one there. */
typedef struct {
    const shd_parameter *parameter;
    const shd_field *field; /* of a structure's handle */
    shd_handle *held;       /* own reference to the object */
    int counted;            /* and one of the handle's */
    int fresh_count;
    shd_handle *fresh[2]; /* made before the call, for what comes back */
    uint32_t slots[2];
    int64_t before;   /* what native code found */
    int64_t cells[2]; /* what it may write to */
    unsigned char *image;
    PyObject *object; /* cell, structure, text, buffer */
    PyObject *pair;   /* tuple for two handles */
    PyObject *later;  /* dropped last: its finalizer may do anything */
    int has_buffer;
    Py_buffer buffer;
} shd_work;

typedef struct {
    const shd_function *function;
    shd_registers registers;
    shd_work *works;
    Py_ssize_t used;
    unsigned char *images;
} shd_call;

/* A new entry; there is always room. */
shd_work *shd_call_work(shd_call *call, const shd_parameter *parameter);

int shd_call_argument(shd_call *call, const shd_parameter *parameter,
                      PyObject *argument);

/* A handle without reference count can only be open or not: 0, or -1 with
 * HandleClosedError or HandleStateError. */
int shd_call_check_critical(shd_handle *handle);

/* 0, or -1 with OverflowError when an int cannot hold the value: cut to 32
 * bits, a wide number can be somebody's descriptor. */
int shd_call_check_width(const shd_handle *handle, char code);

/* Makes the object for what comes back. */
int shd_call_prepare(shd_work *work, PyTypeObject *type);

/* Drops everything, last first, whatever fails.  Returns the first problem as
 * an exception object, the others in its context; NULL without one. Called
 * without a current exception. */
PyObject *shd_call_cleanup(shd_call *call);

/* --- what comes back (call_results.c) --- */

/* Gives a value to the object that was made for it.  1: it names a resource,
 * 0: invalid.  Cannot fail. */
int shd_call_give(shd_work *work, int which, int64_t value);

/* Captures all handles that came back.  Cannot fail. */
void shd_call_capture(shd_call *call);

/* The rest: numbers and structures.  -1 with an exception. */
int shd_call_write_back(shd_call *call);

/* --- types --- */

/* The handle's width in C: 'i' for descriptors and keys of the kernel, else
 * 'q'. */
char shd_call_code_of(PyTypeObject *type);

typedef struct {
    PyObject_HEAD
    PyObject *value;
} shd_cell;

int shd_cell_is_out(PyObject *object);
int shd_cell_is_ref(PyObject *object);
/* errno of this thread's last native call. */
int shd_call_last_errno(void);

int shd_call_function_add(PyObject *module);
int shd_cells_add(PyObject *module);
int shd_call_ctypes_add(shd_interp *state);
int shd_call_capi_add(PyObject *module);

#endif
