/* What no C function can stand in for: vfork() and syscall().
 *
 * A child of vfork() runs in its parent's memory, on its stack, and returns
 * from vfork() first; whatever frame called the kernel is overwritten by the
 * time the parent returns.  So the return address is kept in a register, and
 * the thread is marked: in the child every hook sleeps, until the parent
 * takes the mark away.
 *
 * What syscall() is asked for may be such a call as well: what is not decoded
 * (hooks_syscall.c) is jumped to with registers and stack as they came; so is
 * clone for a child that shares the memory or begins on another stack. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include "hooks.h"

#include <unistd.h>

#if defined(__LP64__) && (defined(__x86_64__) || defined(__aarch64__))

_Static_assert(SHD_RAW_CLONE == 25 && SHD_RAW_CLONE3 == 26,
               "as in the assembly");

#define USED __attribute__((used, visibility("hidden")))

USED pid_t (*shd_real_vfork)(void);
extern long (*shd_real_syscall)(long number, ...);

void shd_hook_vfork(void);
void shd_hook_syscall(void);

/* --- vfork -------------------------------------------------------------------- */

/* 0: libc's is to be jumped to. */
USED int
shd_hook_vfork_begins(void)
{
    if (shd_watch_asleep()) {
        return 0;
    }
    shd_watch_vfork_begins();
    return 1;
}

USED int
shd_hook_vfork_ended(long result, const void *caller)
{
    int failed = result < 0;
    shd_watch_vfork_ended(failed ? -1 : (pid_t)result, caller);
    if (failed) {
        errno = (int)-result;
    }
    return failed ? -1 : (int)result;
}

/* --- assembly --------------------------------------------------------------------- */

#if defined(__x86_64__)

__asm__(".pushsection .text\n"
        ".globl shd_hook_vfork\n"
        ".hidden shd_hook_vfork\n"
        ".type shd_hook_vfork, @function\n"
        "shd_hook_vfork:\n"
        "    .cfi_startproc\n"
        "    subq $8, %rsp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    call shd_hook_vfork_begins\n"
        "    addq $8, %rsp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    testl %eax, %eax\n"
        "    jz 1f\n"
        "    popq %rdi\n" /* the kernel keeps it, the stack does not */
        "    .cfi_adjust_cfa_offset -8\n"
        "    .cfi_register %rip, %rdi\n"
        "    movl $58, %eax\n" /* vfork */
        "    syscall\n"
        "    pushq %rdi\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %rip, 0\n"
        "    testq %rax, %rax\n"
        "    jz 2f\n"
        "    movq %rdi, %rsi\n"
        "    movq %rax, %rdi\n"
        "    jmp shd_hook_vfork_ended\n"
        "2:  ret\n"
        "1:  jmp *shd_real_vfork(%rip)\n"
        "    .cfi_endproc\n"
        ".size shd_hook_vfork, . - shd_hook_vfork\n"
        ".globl shd_hook_syscall\n"
        ".hidden shd_hook_syscall\n"
        ".type shd_hook_syscall, @function\n"
        "shd_hook_syscall:\n"
        "    .cfi_startproc\n"
        "    cmpq $512, %rdi\n"
        "    jae 1f\n"
        "    leaq shd_raw_calls(%rip), %rax\n"
        "    movzbl (%rax, %rdi, 2), %eax\n"
        "    testl %eax, %eax\n"
        "    je 1f\n"
        "    cmpl $25, %eax\n"
        "    je 2f\n"
        "    cmpl $26, %eax\n"
        "    je 3f\n"
        "4:\n"
        "    subq $8, %rsp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq 8(%rsp)\n" /* the caller, and the argument on its stack: */
        "    .cfi_adjust_cfa_offset 8\n"
        "    pushq 24(%rsp)\n" /* copies, the slot may not be one */
        "    .cfi_adjust_cfa_offset 8\n"
        "    call shd_raw_call\n"
        "    addq $24, %rsp\n"
        "    .cfi_adjust_cfa_offset -24\n"
        "    ret\n"
        "3:  testq %rsi, %rsi\n" /* struct clone_args: */
        "    jz 1f\n"
        "    testl $0x100, (%rsi)\n" /* CLONE_VM */
        "    jnz 1f\n"
        "    cmpq $0, 40(%rsi)\n" /* stack */
        "    jne 1f\n"
        "    jmp 4b\n"
        "2:  testl $0x100, %esi\n"
        "    jnz 1f\n"
        "    testq %rdx, %rdx\n"
        "    jz 4b\n"
        "1:  jmp *shd_real_syscall(%rip)\n"
        "    .cfi_endproc\n"
        ".size shd_hook_syscall, . - shd_hook_syscall\n"
        ".popsection\n");

#else

__asm__(".pushsection .text\n"
        ".globl shd_hook_vfork\n"
        ".hidden shd_hook_vfork\n"
        ".type shd_hook_vfork, %function\n"
        "shd_hook_vfork:\n"
        "    .cfi_startproc\n"
        "    stp x29, x30, [sp, #-16]!\n"
        "    .cfi_adjust_cfa_offset 16\n"
        "    .cfi_rel_offset x29, 0\n"
        "    .cfi_rel_offset x30, 8\n"
        "    bl shd_hook_vfork_begins\n"
        "    ldp x29, x30, [sp], #16\n"
        "    .cfi_adjust_cfa_offset -16\n"
        "    .cfi_restore x29\n"
        "    .cfi_restore x30\n"
        "    cbz w0, 1f\n"
        "    mov x0, #0x4111\n" /* CLONE_VM | CLONE_VFORK | SIGCHLD */
        "    mov x1, #0\n"
        "    mov x8, #220\n" /* clone; x30 is kept */
        "    svc #0\n"
        "    cbz x0, 2f\n"
        "    mov x1, x30\n"
        "    b shd_hook_vfork_ended\n"
        "2:  ret\n"
        "1:  adrp x16, shd_real_vfork\n"
        "    ldr x16, [x16, #:lo12:shd_real_vfork]\n"
        "    br x16\n"
        "    .cfi_endproc\n"
        ".size shd_hook_vfork, . - shd_hook_vfork\n"
        ".globl shd_hook_syscall\n"
        ".hidden shd_hook_syscall\n"
        ".type shd_hook_syscall, %function\n"
        "shd_hook_syscall:\n"
        "    .cfi_startproc\n"
        "    cmp x0, #512\n"
        "    b.hs 1f\n"
        "    adrp x16, shd_raw_calls\n"
        "    add x16, x16, #:lo12:shd_raw_calls\n"
        "    lsl x17, x0, #1\n"
        "    ldrb w16, [x16, x17]\n"
        "    cbz w16, 1f\n"
        "    cmp w16, #25\n"
        "    b.eq 3f\n"
        "    cmp w16, #26\n"
        "    b.eq 4f\n"
        "2:  mov x7, x30\n"
        "    b shd_raw_call\n"
        "4:  cbz x1, 1f\n" /* struct clone_args: */
        "    ldr w16, [x1]\n"
        "    tbnz w16, #8, 1f\n"   /* CLONE_VM */
        "    ldr x16, [x1, #40]\n" /* stack */
        "    cbz x16, 2b\n"
        "    b 1f\n"
        "3:  tbnz w1, #8, 1f\n"
        "    cbz x2, 2b\n"
        "1:  adrp x16, shd_real_syscall\n"
        "    ldr x16, [x16, #:lo12:shd_real_syscall]\n"
        "    br x16\n"
        "    .cfi_endproc\n"
        ".size shd_hook_syscall, . - shd_hook_syscall\n"
        ".popsection\n");

#endif

const shd_hook shd_raw_hooks[] = {
    {"vfork", (void *)shd_hook_vfork, (void **)&shd_real_vfork},
    {"__vfork", (void *)shd_hook_vfork, (void **)&shd_real_vfork},
    {"syscall", (void *)shd_hook_syscall, (void **)&shd_real_syscall},
    {0},
};

#else

const shd_hook shd_raw_hooks[] = {{0}};

#endif
