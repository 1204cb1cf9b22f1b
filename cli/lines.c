/* The loop over lines of JSON. */
#include "lines.h"

#include <string.h>

static int answer_line(lines_answer *answer, void *user, const char *line, size_t length, json_t **out,
                       struct err *e)
{
    json_error_t where;
    json_t *in = json_loadb(line, length, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &where);
    if (!in)
        return err_set(e, ERR_INVALID, "not JSON: %s (column %d)", where.text, where.column);
    int status = answer(user, in, out, e);
    json_decref(in);
    return status;
}

int lines_run(lines_answer *answer, void *user)
{
    char *line = NULL;
    size_t room = 0;
    int result = 0;
    for (ssize_t length; (length = getline(&line, &room, stdin)) >= 0;) {
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            length--;
        if (length == 0)
            continue;
        struct err e = {0};
        json_t *out = NULL;
        if (answer_line(answer, user, line, (size_t)length, &out, &e) < 0) {
            out = json_pack("{s:s}", "error", e.text);
            result = 1;
        }
        if (!out || json_dumpf(out, stdout, JSON_ENCODE_ANY | JSON_COMPACT) != 0 || putchar('\n') == EOF ||
            fflush(stdout) != 0)
            result = 1;
        json_decref(out);
        if (ferror(stdout))
            break;
    }
    if (ferror(stdin))
        result = 1;
    free(line);
    return result;
}

json_t *lines_ids(const int32_t *ids, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < n; i++)
        if (json_array_append_new(array, json_integer(ids[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}
