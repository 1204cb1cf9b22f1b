/* hearth run: one answer, or a conversation in the terminal. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "session.h"
#include "text.h"

struct talk {
    struct session session;
    struct sampling sampling;
    int max_tokens;
    json_t *messages; /* owned */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Ctrl-C stops an answer; at the prompt it makes getline return (no SA_RESTART). */
static void watch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

static int add_message(struct talk *t, const char *role, const char *text, size_t length, struct err *e)
{
    json_t *content = json_stringn(text, length);
    if (!content)
        return err_set(e, ERR_INVALID, "the text is not UTF-8");
    if (json_array_append_new(t->messages, json_pack("{s:s,s:o}", "role", role, "content", content)) != 0)
        return err_set(e, ERR_NOMEM, "no memory for the conversation");
    return 0;
}

/* The text of an answer as it grows. */
struct answer {
    char *text; /* owned */
    size_t length, room;
};

static int answer_add(struct answer *a, const char *text, size_t length, struct err *e)
{
    if (a->room - a->length < length + 1) {
        size_t room = 2 * (a->length + length) + 256;
        char *grown = realloc(a->text, room);
        if (!grown)
            return err_set(e, ERR_NOMEM, "no memory for the answer");
        a->text = grown;
        a->room = room;
    }
    memcpy(a->text + a->length, text, length);
    a->length += length;
    a->text[a->length] = 0;
    return 0;
}

/* Prints a request's text as it comes. */
static int follow(struct talk *t, uint64_t id, struct answer *a, struct err *e)
{
    int status = 1;
    bool cancelled = false;
    while (status == 1) {
        if (interrupted && !cancelled) {
            engine_cancel(t->session.engine, id);
            cancelled = true;
        }
        struct engine_event *event = engine_poll(t->session.engine);
        if (!event) {
            engine_wait(t->session.engine, 0.1);
            continue;
        }
        if (event->kind == ENGINE_TEXT && event->length) {
            fwrite(event->text, 1, event->length, stdout);
            if (fflush(stdout) != 0) /* nobody reads any more */
                interrupted = 1;
            if (answer_add(a, event->text, event->length, e) < 0) {
                engine_cancel(t->session.engine, id);
                cancelled = true;
            }
        }
        if (event->kind == ENGINE_FAILED)
            status = err_set(e, event->err.code, "%s", event->err.text);
        if (event->kind == ENGINE_DONE && event->last)
            status = 0;
        engine_event_free(event);
    }
    return status;
}

static int submit(struct talk *t, uint64_t *id, struct err *e)
{
    struct rendered prompt;
    json_t *input = json_pack("{s:O}", "messages", t->messages);
    int status =
        input ? engine_render(t->session.model, input, &prompt, e) : err_set(e, ERR_NOMEM, "no memory");
    json_decref(input);
    if (status < 0)
        return status;
    struct engine_request request = {
        .model = t->session.model,
        .prompt = prompt.ids.ids,
        .n_prompt = prompt.ids.n,
        .sampling = t->sampling,
        .max_tokens = t->max_tokens,
    };
    status = engine_submit(t->session.engine, &request, id, e);
    engine_rendered_free(&prompt);
    return status;
}

/* Answers the last message and adds the answer to the conversation. */
static int answer_last(struct talk *t, struct err *e)
{
    uint64_t id;
    struct answer a = {0};
    interrupted = 0;
    int status = submit(t, &id, e);
    if (status == 0)
        status = follow(t, id, &a, e);
    if (a.length == 0 || a.text[a.length - 1] != '\n')
        putchar('\n');
    fflush(stdout);
    if (status == 0)
        status = add_message(t, "assistant", a.text ? a.text : "", a.length, e);
    t->sampling.seed++;
    free(a.text);
    return status;
}

static int ask(struct talk *t, const char *text, size_t length, struct err *e)
{
    int status = add_message(t, "user", text, length, e);
    return status < 0 ? status : answer_last(t, e);
}

static void converse(struct talk *t, struct err *e)
{
    printf("%s. /exit or Ctrl-D ends, Ctrl-C stops an answer.\n", engine_model_info(t->session.model)->name);
    char *line = NULL;
    size_t room = 0;
    for (int idle_interrupts = 0; idle_interrupts < 2;) {
        fputs("\n> ", stdout);
        fflush(stdout);
        interrupted = 0;
        errno = 0;
        ssize_t length = getline(&line, &room, stdin);
        if (length < 0 && errno == EINTR && interrupted) {
            clearerr(stdin);
            fputs("\n(Ctrl-C again or Ctrl-D to leave)", stdout);
            idle_interrupts++;
            continue;
        }
        if (length < 0)
            break;
        idle_interrupts = 0;
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = 0;
        if (strcmp(line, "/exit") == 0)
            break;
        if (length == 0)
            continue;
        size_t before = json_array_size(t->messages);
        if (ask(t, line, (size_t)length, e) < 0) {
            text_fail(e); /* the question stays out of the conversation, which goes on */
            while (json_array_size(t->messages) > before)
                json_array_remove(t->messages, before);
        }
    }
    free(line);
}

static int read_standard_input(struct talk *t, struct err *e)
{
    char *text;
    size_t length;
    int status = text_read_file("/dev/stdin", 16 << 20, &text, &length, e);
    if (status < 0)
        return status;
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r'))
        length--;
    status = length ? ask(t, text, length, e) : err_set(e, ERR_INVALID, "standard input is empty");
    free(text);
    return status;
}

int command_run(const struct options *o)
{
    struct err e;
    struct talk t = {.max_tokens = (int)option_integer(o, OPTION_MAX_TOKENS), .messages = json_array()};
    int status = session_open(&t.session, o, 1, &e);
    if (status == 0 && option_text(o, OPTION_SYSTEM))
        status = add_message(&t, "system", option_text(o, OPTION_SYSTEM),
                             strlen(option_text(o, OPTION_SYSTEM)), &e);
    if (status == 0) {
        watch_interrupt();
        t.sampling = session_sampling(&t.session, o);
        t.sampling.seed = option_is_set(o, OPTION_SEED) ? (uint64_t)option_integer(o, OPTION_SEED)
                                                        : (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
        if (o->n_arguments)
            status = ask(&t, o->arguments[0], strlen(o->arguments[0]), &e);
        else if (isatty(0))
            converse(&t, &e);
        else
            status = read_standard_input(&t, &e);
    }
    json_decref(t.messages);
    session_close(&t.session);
    return status < 0 ? text_fail(&e) : interrupted ? 130 : 0;
}
