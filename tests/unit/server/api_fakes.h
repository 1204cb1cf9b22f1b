/* Stand-ins for the engine and the HTTP layer: the API's tests play both sides and look at the
 * bytes. Every byte is a token of its own (id = byte); 256 is "<bos>", 257 is "word". */
#ifndef HEARTH_TEST_API_FAKES_H
#define HEARTH_TEST_API_FAKES_H

#include <jansson.h>

#include "../../../server/api/api.h"
#include "../../../server/api/shelf.h"

enum { FAKE_VOCAB = 258, FAKE_BOS = 256, FAKE_WORD = 257, FAKE_MAX_SUBMITTED = 64 };

struct http_request {
    const char *method, *path, *authorization, *body;
    size_t body_length;
    void *user;
    void (*gone)(void *user, bool finished);
    bool is_gone;
    /* what was answered */
    int status;
    char fields[2048];     /* "Name: value\n"… */
    char *sent;            /* everything written, NUL-terminated */
    size_t n_sent;
    int writes;
    bool stream, ended;
    bool stuck;            /* the client does not read: writes stay pending */
    size_t pending;
    void (*drained)(void *data);
};

struct fake_submitted {
    struct engine_request request; /* pointers are to copies */
    int32_t *prompt;
    uint64_t id;
    bool cancelled;
    int credit;
};

struct fake_engine {
    struct fake_submitted submitted[FAKE_MAX_SUBMITTED];
    size_t n_submitted;
    int refuse;            /* engine_submit fails with this code once `accept` requests are in */
    size_t accept;
    char rendered[4096];   /* the last input of engine_render, as JSON */
};
extern struct fake_engine fake;

struct model_info *fake_model_info(void);
/* One model, loaded, of that name. */
struct shelf *fake_shelf(void);

/* A fresh api on a fresh loop; `ready`: with its model loaded. fake_end closes and frees it. */
struct api *fake_api(const struct api_options *, bool ready);
void fake_end(void);
/* Hands in a request. The same struct shows the answer. */
void fake_ask(struct http_request *, const char *method, const char *path, const char *body);
/* Runs the loop until the thread pool has nothing of ours any more. */
void fake_settle(void);
/* Runs the loop once. */
void fake_turn(void);
/* The client leaves, or its answer is complete. */
void fake_gone(struct http_request *, bool finished);
void fake_free(struct http_request *);

/* Events of a submitted request. */
void fake_text(size_t submitted, int choice, const char *text);
void fake_text_tokens(size_t submitted, int choice, const char *text, const struct engine_token *, size_t n);
void fake_prompt(size_t submitted, const struct engine_token *, size_t n);
/* Of four numbers, the width of the model. */
void fake_embedding(size_t submitted, const float *embedding);
void fake_done(size_t submitted, int choice, enum finish, int completion_tokens, bool last);
void fake_queued(size_t submitted, int ahead);
void fake_failed(size_t submitted, int code, const char *text);

#endif
