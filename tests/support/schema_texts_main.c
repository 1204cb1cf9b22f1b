/* Random texts that the grammars of JSON Schemas let through, without any model. Reads a line of JSON each,
 * {"schema": …, "strict": bool, "texts": n, "seed": n}, and writes {"texts": […], "seconds": …, "bytes": …},
 * of the compiled grammar, or {"error": …, "code": …, "seconds": …}. At the end comes {"peak": …}: the most
 * memory that the process had, in bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../../engine/engine.h"
#include "../../engine/grammar/automaton.h"
#include "../../engine/grammar/stacks.h"

enum { LONG_TEXT = 200, LONGEST_TEXT = 20000 };

static uint64_t random_state;

static unsigned below(unsigned n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

/* The allowed byte to go on with: of any kind at first; of a long text what brings it to its end. */
static int choose(const bool allowed[256], size_t length, bool in_string)
{
    const char *closing = in_string ? "\"" : "}]\",nulefastr0123456789";
    if (length > LONG_TEXT || below(4) == 0) {
        for (const char *c = closing; *c; c++) {
            if (allowed[(unsigned char)*c] && (length > LONG_TEXT || below(3) > 0))
                return (unsigned char)*c;
        }
    }
    int found[256], n = 0, plain = 0;
    for (int byte = 0; byte < 256; byte++) {
        if (!allowed[byte] || (length > LONG_TEXT && (byte == '{' || byte == '[' || byte == '\\')))
            continue;
        found[n++] = byte;
        plain = byte < 0x80 ? n : plain;
    }
    if (n == 0)
        return allowed['{'] ? '{' : allowed['['] ? '[' : '\\';
    return found[below((unsigned)(plain > 0 && below(8) > 0 ? plain : n))];
}

static json_t *random_text(const struct automaton *automaton, struct err *err)
{
    struct stacks stacks;
    struct stack_set set = {0}, next = {0};
    char text[LONGEST_TEXT];
    size_t length = 0;
    bool in_string = false, escaped = false;
    stacks_init(&stacks, automaton);
    int failed = stacks_begin(&stacks, &set, automaton->start[0], err);
    while (!failed && length < LONGEST_TEXT && set.n > 0) {
        bool allowed[256], any = false;
        if (set.pops && (length > LONG_TEXT || below(3) == 0))
            break;
        for (int byte = 0; byte < 256 && !failed; byte++) {
            failed = stacks_advance(&stacks, &set, (unsigned char)byte, &next, err);
            allowed[byte] = next.n > 0 || next.pops;
            any |= allowed[byte];
        }
        if (failed || !any)
            break;
        int byte = choose(allowed, length, in_string && !escaped);
        failed = stacks_advance(&stacks, &set, (unsigned char)byte, &next, err);
        text[length++] = (char)byte;
        if (byte == '"' && !escaped)
            in_string = !in_string;
        escaped = in_string && byte == '\\' && !escaped;
        struct stack_set swap = set;
        set = next;
        next = swap;
    }
    if (!failed && !set.pops)
        failed = err_set(err, ERR_LIMIT, "no end after %zu bytes: %.80s", length, text);
    stack_set_dispose(&set);
    stack_set_dispose(&next);
    stacks_dispose(&stacks);
    return failed ? NULL : json_stringn(text, length);
}

/* Processor time: other programs do not count. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static json_t *answer(const json_t *order)
{
    struct grammar_build *build;
    struct automaton *automaton = NULL;
    struct err err = {0};
    double start = now();
    if (grammar_build_create(&build, &err))
        return NULL;
    int root = grammar_schema(build, json_object_get(order, "schema"),
                              json_is_true(json_object_get(order, "strict")));
    int failed = grammar_failure(build, &err);
    if (!failed)
        failed = automaton_create(&automaton, build, root, &err);
    grammar_build_destroy(build);
    double seconds = now() - start;
    json_t *texts = json_array();
    random_state = (uint64_t)json_integer_value(json_object_get(order, "seed")) + 1;
    for (json_int_t i = json_integer_value(json_object_get(order, "texts")); i > 0 && !failed; i--) {
        json_t *text = random_text(automaton, &err);
        failed = !text;
        if (text)
            json_array_append_new(texts, text);
    }
    json_t *result =
        failed ? json_pack("{s:s, s:i, s:f}", "error", err.text, "code", err.code, "seconds", seconds)
               : json_pack("{s:O, s:f, s:I}", "texts", texts, "seconds", seconds, "bytes",
                           (json_int_t)automaton_bytes(automaton));
    json_decref(texts);
    automaton_destroy(automaton);
    return result;
}

static void write_line(json_t *value)
{
    json_dumpf(value, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(value);
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        json_t *order = json_loads(line, 0, NULL);
        write_line(answer(order));
        fflush(stdout);
        json_decref(order);
    }
    free(line);
    struct engine_memory memory;
    engine_memory(&memory);
    write_line(json_pack("{s:I}", "peak", (json_int_t)memory.peak));
    return 0;
}
