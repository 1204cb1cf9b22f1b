/* OpenAI's list of embeddings. Each is written when it comes, so that the whole list takes no time at once. */
#include "job.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int begin(struct job *job)
{
    (void)job; /* the answer is written as bytes */
    return 0;
}

static void add_text(struct bytes *out, const char *text)
{
    bytes_add(out, text, strlen(text));
}

static void add_numbers(struct bytes *out, const float *vector, int n, double scale)
{
    char text[32];
    for (int i = 0; i < n; i++) {
        int length = snprintf(text, sizeof text, "%c%.9g", i == 0 ? '[' : ',', (double)(float)(vector[i] * scale));
        bytes_add(out, text, (size_t)length);
    }
    add_text(out, "]");
}

static void add_base64(struct bytes *out, const float *vector, int n, double scale)
{
    struct bytes raw = {0};
    for (int i = 0; i < n; i++) {
        float value = (float)(vector[i] * scale);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        unsigned char bytes[4] = {(unsigned char)bits, (unsigned char)(bits >> 8), (unsigned char)(bits >> 16),
                                  (unsigned char)(bits >> 24)};
        bytes_add(&raw, bytes, sizeof bytes);
    }
    add_text(out, "\"");
    bytes_add_base64(out, (const unsigned char *)raw.data, raw.length);
    add_text(out, "\"");
    out->failed |= raw.failed;
    bytes_dispose(&raw);
}

void answer_embedding(struct part *part, const struct engine_event *event)
{
    struct job *job = part->job;
    const struct api_request *request = &job->request;
    struct bytes *out = &job->choices[part->first_choice].embedding;
    if (request->endpoint != API_EMBEDDINGS)
        return;
    int n = request->dimensions ? request->dimensions : engine_model_info(job->model)->width;
    double square = 0;
    for (int i = 0; i < n; i++)
        square += (double)event->embedding[i] * event->embedding[i];
    double scale = square > 0 ? 1 / sqrt(square) : 0;
    (request->base64 ? add_base64 : add_numbers)(out, event->embedding, n, scale);
    if (out->failed)
        job_fail_memory(job);
}

static int whole(struct job *job, struct bytes *body)
{
    char text[96];
    add_text(body, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < answer_choices(job); i++) {
        struct bytes *embedding = &job->choices[i].embedding;
        snprintf(text, sizeof text, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i > 0 ? "," : "", i);
        add_text(body, text);
        bytes_add(body, embedding->data, embedding->length);
        add_text(body, "}");
        bytes_dispose(embedding);
    }
    json_t *name = json_string(job->asked->name);
    add_text(body, "],\"model\":");
    bytes_add_json(body, name);
    json_decref(name);
    long long tokens = (long long)job->prompt_tokens;
    snprintf(text, sizeof text, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}", tokens, tokens);
    add_text(body, text);
    if (job->extension) {
        add_text(body, ",\"hearth\":");
        bytes_add_json(body, job->extension);
    }
    add_text(body, "}");
    return body->failed ? -1 : 0;
}

const struct answer_format format_embeddings = {
    .id_prefix = "embd-",
    .begin = begin,
    .whole = whole,
};
