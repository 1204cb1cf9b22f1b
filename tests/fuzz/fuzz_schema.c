/* libFuzzer target: any JSON as a JSON Schema, compiled to an automaton. What is taken may have texts, and
 * the automaton's own promise, that every place in it leads to an end, is checked on a few of them. */
#include "../../engine/grammar/automaton.h"
#include "../../engine/grammar/stacks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A text by the smallest bytes, up to a few hundred: it never comes to a place without a way on. */
static void walk(const struct automaton *automaton)
{
    struct stacks stacks;
    struct stack_set set = {0}, next = {0};
    struct err err = {0};
    stacks_init(&stacks, automaton);
    int failed = stacks_begin(&stacks, &set, automaton->start[0], &err);
    for (int i = 0; i < 300 && !failed && set.n > 0; i++) {
        bool goes_on = false;
        for (int byte = 0; byte < 256 && !failed && !goes_on; byte++) {
            failed = stacks_advance(&stacks, &set, (unsigned char)((byte + i * 37) & 255), &next, &err);
            goes_on = next.n > 0 || next.pops;
        }
        REQUIRE(failed || goes_on || set.pops);
        if (!goes_on)
            break;
        struct stack_set swap = set;
        set = next;
        next = swap;
    }
    stack_set_dispose(&set);
    stack_set_dispose(&next);
    stacks_dispose(&stacks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grammar_build *build;
    struct automaton *automaton = NULL;
    struct err err = {0};
    json_t *schema = size > 0 ? json_loadb((const char *)data + 1, size - 1, JSON_DECODE_ANY, NULL) : NULL;
    if (!schema)
        return 0;
    REQUIRE(grammar_build_create(&build, &err) == 0);
    int root = grammar_schema(build, schema, data[0] & 1);
    int rc = grammar_failure(build, &err);
    if (rc == 0)
        rc = automaton_create(&automaton, build, root, &err);
    REQUIRE(rc == err.code && (rc == 0) == (automaton != NULL) && (rc == 0 || err.text[0]));
    if (automaton)
        walk(automaton);
    automaton_destroy(automaton);
    grammar_build_destroy(build);
    json_decref(schema);
    return 0;
}
