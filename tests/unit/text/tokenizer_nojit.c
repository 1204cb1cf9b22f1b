/* Linked beside the tokenizer's tests: a system that refuses executable memory, so that all of them hold
 * with PCRE2's interpreter too. */
#include <stdint.h>

int pcre2_jit_compile_8(void *code, uint32_t options);

int pcre2_jit_compile_8(void *code, uint32_t options)
{
    (void)code;
    (void)options;
    return -48; /* PCRE2_ERROR_NOMEMORY */
}
