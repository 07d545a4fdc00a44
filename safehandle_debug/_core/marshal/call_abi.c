/* Registers and stack of a native call, without libffi.
 *
 * libffi is not part of a C compiler, and ctypes, which brings its own, turns
 * the result into a Python object before anybody can own it: an allocation
 * that can fail while a fresh descriptor is in a register.  The two
 * conventions that matter here need little: the System V one of x86-64 and
 * AAPCS64 hand integers and doubles out to two independent rows of registers,
 * and everything beyond in words of 8 bytes on the stack.  So one call with
 * all registers filled, and the stack's words after them, calls any function
 * whose arguments are numbers, addresses and plain structures.
 *
 * The call is made as to a variadic function: on x86-64 that tells variadic
 * callees how many vector registers are in use, and costs others nothing; on
 * AArch64 under Linux the two conventions are the same. */
#include "call.h"

#include <string.h>

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))       \
    && defined(__LP64__)
const int shd_call_possible = 1;
#else
const int shd_call_possible = 0;
#endif

void
shd_registers_clear(shd_registers *to)
{
    memset(to->ints, 0, sizeof(to->ints));
    to->int_count = to->double_count = to->word_count = 0;
}

void
shd_registers_int(shd_registers *to, int64_t value)
{
    if (to->int_count < SHD_CALL_INTS) {
        to->ints[to->int_count++] = value;
    }
    else {
        to->words[to->word_count++] = value;
    }
}

void
shd_registers_double(shd_registers *to, double value)
{
    if (to->double_count < SHD_CALL_DOUBLES) {
        to->doubles[to->double_count++] = value;
    }
    else {
        memcpy(&to->words[to->word_count++], &value, sizeof(value));
    }
}

void
shd_registers_struct(shd_registers *to, unsigned char *image, size_t size,
                     unsigned int floats)
{
    int words = (int)((size + 7) / 8);
    int in_registers = words <= 2;
#if defined(__aarch64__)
    if (words > 2) {
        shd_registers_int(to, (int64_t)(intptr_t)image);
        return;
    }
    floats = 0; /* only structures of nothing else would differ */
    if (to->int_count + words > SHD_CALL_INTS) {
        to->int_count = SHD_CALL_INTS;
        in_registers = 0;
    }
#else
    int doubles = 0;
    for (int i = 0; i < words && i < 2; i++) {
        doubles += (floats >> i) & 1;
    }
    in_registers = in_registers
                   && to->int_count + words - doubles <= SHD_CALL_INTS
                   && to->double_count + doubles <= SHD_CALL_DOUBLES;
#endif
    for (int i = 0; i < words; i++) {
        int64_t word;
        memcpy(&word, image + 8 * i, sizeof(word));
        if (!in_registers) {
            to->words[to->word_count++] = word;
        }
        else if ((floats >> i) & 1) {
            double value;
            memcpy(&value, &word, sizeof(value));
            shd_registers_double(to, value);
        }
        else {
            shd_registers_int(to, word);
        }
    }
}

#if defined(__aarch64__)
#define INTS(r)                                                               \
    r->ints[0], r->ints[1], r->ints[2], r->ints[3], r->ints[4], r->ints[5],   \
        r->ints[6], r->ints[7]
#else
#define INTS(r)                                                               \
    r->ints[0], r->ints[1], r->ints[2], r->ints[3], r->ints[4], r->ints[5]
#endif
#define DOUBLES(r)                                                            \
    r->doubles[0], r->doubles[1], r->doubles[2], r->doubles[3],               \
        r->doubles[4], r->doubles[5], r->doubles[6], r->doubles[7]
#define WORDS(r)                                                              \
    r->words[0], r->words[1], r->words[2], r->words[3], r->words[4],          \
        r->words[5], r->words[6], r->words[7], r->words[8], r->words[9],      \
        r->words[10], r->words[11], r->words[12], r->words[13], r->words[14], \
        r->words[15]

typedef int64_t (*int_function)(int64_t, ...);
typedef double (*double_function)(int64_t, ...);

/* Registers that nobody filled are passed all the same, as zeros. */
static void
fill(shd_registers *all, const shd_registers *from)
{
    *all = *from;
    for (int i = from->double_count; i < SHD_CALL_DOUBLES; i++) {
        all->doubles[i] = 0;
    }
    for (int i = from->word_count; i < SHD_CALL_WORDS; i++) {
        all->words[i] = 0;
    }
}

int64_t
shd_registers_call(const shd_registers *from, void *address)
{
    int_function call = (int_function)(uintptr_t)address;
    if (from->double_count == 0 && from->word_count == 0) {
        return call(INTS(from));
    }
    shd_registers all;
    fill(&all, from);
    const shd_registers *r = &all;
    return call(INTS(r), DOUBLES(r), WORDS(r));
}

double
shd_registers_call_double(const shd_registers *from, void *address)
{
    double_function call = (double_function)(uintptr_t)address;
    shd_registers all;
    fill(&all, from);
    const shd_registers *r = &all;
    return call(INTS(r), DOUBLES(r), WORDS(r));
}
