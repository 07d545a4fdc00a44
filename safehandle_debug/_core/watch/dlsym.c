/* dlsym() and dlvsym(): who looks a function up gets ours too.
 *
 * RTLD_NEXT and RTLD_DEFAULT mean something else for each caller: glibc looks
 * at the return address.  So the first step is written in assembler: it asks
 * C what to do, and otherwise jumps on with everything as it was. */
#define _GNU_SOURCE
#include "originals.h"

#include <dlfcn.h>

void *shd_original_dlsym __attribute__((visibility("hidden")));
void *shd_original_dlvsym __attribute__((visibility("hidden")));

typedef struct {
    void *result;
    long decided; /* 0: jump on to the original */
} answer;

static answer
replace(const char *name, void *found)
{
    shd_interpose_passed();
    shd_interpose_again();
    const shd_original *original =
        found == NULL ? NULL : shd_originals_find(name);
    if (original != NULL && shd_original_is(original, found)) {
        found = original->replacement;
    }
    return (answer){found, 1};
}

static int
is_for_caller(void *handle, const char *name)
{
    return name == NULL || handle == RTLD_NEXT || handle == RTLD_DEFAULT;
}

/* Libraries' own scopes come after the global one, and libc is in the global
 * one: whoever asks there for what is in it gets the same. */
static answer
answer_caller(void *handle, const char *name)
{
    if (name != NULL && handle == RTLD_DEFAULT) {
        const shd_original *original = shd_originals_find(name);
        if (original != NULL) {
            return (answer){original->replacement, 1};
        }
    }
    return (answer){NULL, 0};
}

__attribute__((visibility("hidden"), used)) answer
shd_decide_dlsym(void *handle, const char *name)
{
    if (is_for_caller(handle, name)) {
        return answer_caller(handle, name);
    }
    void *(*look_up)(void *, const char *) = shd_original_dlsym;
    return replace(name, look_up(handle, name));
}

__attribute__((visibility("hidden"), used)) answer
shd_decide_dlvsym(void *handle, const char *name, const char *version)
{
    if (is_for_caller(handle, name)) {
        return (answer){NULL, 0};
    }
    void *(*look_up)(void *, const char *, const char *) = shd_original_dlvsym;
    return replace(name, look_up(handle, name, version));
}

#if defined(__x86_64__)
#define LOOKUP(name, decide, original)                                        \
    __asm__(".pushsection .text\n"                                            \
            ".globl " name "\n"                                               \
            ".hidden " name "\n"                                              \
            ".type " name ", @function\n" name ":\n"                          \
            "    .cfi_startproc\n"                                            \
            "    endbr64\n"                                                   \
            "    subq $40, %rsp\n"                                            \
            "    .cfi_adjust_cfa_offset 40\n"                                 \
            "    movq %rdi, (%rsp)\n"                                         \
            "    movq %rsi, 8(%rsp)\n"                                        \
            "    movq %rdx, 16(%rsp)\n"                                       \
            "    call " decide "\n"                                           \
            "    testq %rdx, %rdx\n"                                          \
            "    jne 1f\n"                                                    \
            "    movq (%rsp), %rdi\n"                                         \
            "    movq 8(%rsp), %rsi\n"                                        \
            "    movq 16(%rsp), %rdx\n"                                       \
            "    .cfi_remember_state\n"                                       \
            "    addq $40, %rsp\n"                                            \
            "    .cfi_adjust_cfa_offset -40\n"                                \
            "    jmp *" original "(%rip)\n"                                   \
            "    .cfi_restore_state\n"                                        \
            "1:  addq $40, %rsp\n"                                            \
            "    .cfi_adjust_cfa_offset -40\n"                                \
            "    ret\n"                                                       \
            "    .cfi_endproc\n"                                              \
            ".size " name ", .-" name "\n"                                    \
            ".popsection\n")
#elif defined(__aarch64__)
#define LOOKUP(name, decide, original)                                        \
    __asm__(".pushsection .text\n"                                            \
            ".balign 4\n"                                                     \
            ".globl " name "\n"                                               \
            ".hidden " name "\n"                                              \
            ".type " name ", %function\n" name ":\n"                          \
            "    .cfi_startproc\n"                                            \
            "    hint #34\n"                                                  \
            "    stp x29, x30, [sp, #-48]!\n"                                 \
            "    .cfi_adjust_cfa_offset 48\n"                                 \
            "    .cfi_rel_offset x29, 0\n"                                    \
            "    .cfi_rel_offset x30, 8\n"                                    \
            "    mov x29, sp\n"                                               \
            "    stp x0, x1, [sp, #16]\n"                                     \
            "    str x2, [sp, #32]\n"                                         \
            "    bl " decide "\n"                                             \
            "    cbnz x1, 1f\n"                                               \
            "    ldp x0, x1, [sp, #16]\n"                                     \
            "    ldr x2, [sp, #32]\n"                                         \
            "    adrp x16, " original "\n"                                    \
            "    ldr x16, [x16, :lo12:" original "]\n"                        \
            "    .cfi_remember_state\n"                                       \
            "    ldp x29, x30, [sp], #48\n"                                   \
            "    .cfi_adjust_cfa_offset -48\n"                                \
            "    .cfi_restore x29\n"                                          \
            "    .cfi_restore x30\n"                                          \
            "    br x16\n"                                                    \
            "    .cfi_restore_state\n"                                        \
            "1:  ldp x29, x30, [sp], #48\n"                                   \
            "    .cfi_adjust_cfa_offset -48\n"                                \
            "    .cfi_restore x29\n"                                          \
            "    .cfi_restore x30\n"                                          \
            "    ret\n"                                                       \
            "    .cfi_endproc\n"                                              \
            ".size " name ", .-" name "\n"                                    \
            ".popsection\n")
#endif

#ifdef LOOKUP
LOOKUP("shd_replacement_dlsym", "shd_decide_dlsym", "shd_original_dlsym");
LOOKUP("shd_replacement_dlvsym", "shd_decide_dlvsym", "shd_original_dlvsym");
#else
void *
shd_replacement_dlsym(void *handle, const char *name)
{
    void *(*look_up)(void *, const char *) = shd_original_dlsym;
    return look_up(handle, name);
}

void *
shd_replacement_dlvsym(void *handle, const char *name, const char *version)
{
    void *(*look_up)(void *, const char *, const char *) = shd_original_dlvsym;
    return look_up(handle, name, version);
}
#endif
