/* Switching stacks: the registers that a call preserves go to the old stack and come from the new one. */
#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_feature)
#define FIBER_HAS(x) __has_feature(x)
#else
#define FIBER_HAS(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || FIBER_HAS(address_sanitizer)
#define FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__) || FIBER_HAS(thread_sanitizer)
#define FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#ifdef __APPLE__
#define FIBER_SYMBOL "_hearth_fiber_switch"
#else
#define FIBER_SYMBOL "hearth_fiber_switch"
#endif

void hearth_fiber_switch(void **save, void *load);

#if defined(__x86_64__)
#define FIBER_REGISTERS 6
__asm__(".text\n.globl " FIBER_SYMBOL "\n.p2align 4\n" FIBER_SYMBOL ":\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\n"
        "movq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\n"
        "ret\n");

/* The frame that the first switch pops: registers, the entry as return address, and what aligns the
 * stack as after a call. */
static void *first_frame(char *top, void (*entry)(void))
{
    void **frame = (void **)top - 2 - FIBER_REGISTERS;
    memset(frame, 0, (FIBER_REGISTERS + 2) * sizeof *frame);
    frame[FIBER_REGISTERS] = (void *)entry;
    return frame;
}
#elif defined(__aarch64__)
#define FIBER_REGISTERS 20
__asm__(
    ".text\n.globl " FIBER_SYMBOL "\n.p2align 4\n" FIBER_SYMBOL ":\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
    "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
    "mov x9, sp\nstr x9, [x0]\n"
    "mov sp, x1\n"
    "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
    "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\n"
    "ret\n");

static void *first_frame(char *top, void (*entry)(void))
{
    void **frame = (void **)top - FIBER_REGISTERS;
    memset(frame, 0, FIBER_REGISTERS * sizeof *frame);
    frame[11] = (void *)entry; /* x30 */
    return frame;
}
#else
#define FIBER_UCONTEXT
#include <ucontext.h>
#endif

#define FIBER_COLOURS 64

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

int fiber_stacks_create(struct fiber *f, int n, size_t bytes)
{
    size_t page = page_bytes(), each = bytes + page;
    char *all = mmap(NULL, each * (size_t)n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return -1;
    for (int i = 0; i < n; i++) {
        f[i] = (struct fiber){.stack = all + each * (size_t)i + page, .bytes = bytes};
        mprotect(all + each * (size_t)i, page, PROT_NONE);
    }
    for (int i = 0; i < n; i++) {
#ifdef FIBER_TSAN
        f[i].sanitizer = __tsan_create_fiber(0);
#endif
#ifdef FIBER_UCONTEXT
        f[i].context = malloc(sizeof(ucontext_t));
        if (!f[i].context) {
            fiber_stacks_free(f, n);
            return -1;
        }
#endif
    }
    return 0;
}

void fiber_stacks_free(struct fiber *f, int n)
{
    size_t page = page_bytes();
    for (int i = 0; i < n; i++) {
        fiber_abandon(&f[i]);
#ifdef FIBER_TSAN
        __tsan_destroy_fiber(f[i].sanitizer);
#endif
        free(f[i].context);
    }
    munmap(f[0].stack - page, (f[0].bytes + page) * (size_t)n);
}

void fiber_prepare(struct fiber *f, void (*entry)(void))
{
#ifdef FIBER_UCONTEXT
    ucontext_t *context = f->context;
    getcontext(context);
    context->uc_stack.ss_sp = f->stack;
    context->uc_stack.ss_size = f->bytes;
    makecontext(context, entry, 0);
#else
    /* Stacks lie at even distances: without an offset for each, all would use the same cache sets. */
    size_t colour = (size_t)((uintptr_t)f->stack / f->bytes % FIBER_COLOURS) * 192;
    f->stack_pointer = first_frame(f->stack + f->bytes - colour, entry);
#endif
#ifdef FIBER_ASAN
    f->sanitizer = NULL;
#endif
}

#ifdef FIBER_ASAN
/* Who switched last: where it is the system thread itself, only the sanitizer knows its stack. */
static _Thread_local struct fiber *left;
#endif

void fiber_entered(struct fiber *self)
{
#ifdef FIBER_ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(self->sanitizer, &bottom, &size);
    if (left && !left->stack) {
        left->bottom = bottom;
        left->bytes = size;
    }
#else
    (void)self;
#endif
}

void fiber_switch(struct fiber *from, struct fiber *to, int ends)
{
#ifdef FIBER_ASAN
    left = from;
    __sanitizer_start_switch_fiber(ends ? NULL : &from->sanitizer, to->stack ? to->stack : to->bottom,
                                   to->bytes);
#elif defined(FIBER_TSAN)
    if (!from->stack)
        from->sanitizer = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->sanitizer, 0);
#endif
    (void)ends;
#ifdef FIBER_UCONTEXT
    ucontext_t own;
    if (!from->context)
        from->context = &own;
    swapcontext(from->context, to->context);
    if (from->context == &own)
        from->context = NULL;
#else
    hearth_fiber_switch(&from->stack_pointer, to->stack_pointer);
#endif
    fiber_entered(from);
}

void fiber_abandon(struct fiber *f)
{
#ifdef FIBER_ASAN
    __asan_unpoison_memory_region(f->stack, f->bytes);
#else
    (void)f;
#endif
}
