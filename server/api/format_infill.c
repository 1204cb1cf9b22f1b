/* The answers of /infill, as llama.cpp's server and the editors' plugins for it have them. */
#include "job.h"

#include <math.h>
#include <string.h>

static int begin(struct job *job)
{
    job->head = json_pack("{s:i, s:s, s:s}", "index", 0, "id", job->id, "model", job->asked->name);
    return job->head ? 0 : -1;
}

static json_t *timings(const struct job *job)
{
    const struct part *part = &job->parts[0];
    double prompt = (double)(job->prompt_tokens - job->cached_tokens), predicted = (double)job->completion_tokens;
    double before = fmax(part->prefill_seconds, 1e-6), after = fmax(part->decode_seconds, 1e-6);
    return json_pack("{s:I, s:I, s:f, s:f, s:f, s:I, s:f, s:f, s:f}", "cache_n", (json_int_t)job->cached_tokens,
                     "prompt_n", (json_int_t)prompt, "prompt_ms", before * 1e3, "prompt_per_token_ms",
                     before * 1e3 / fmax(prompt, 1), "prompt_per_second", prompt / before, "predicted_n",
                     (json_int_t)predicted, "predicted_ms", after * 1e3, "predicted_per_token_ms",
                     after * 1e3 / fmax(predicted, 1), "predicted_per_second", predicted / after);
}

/* Sets what only the end of the answer has. The reference to content is taken. */
static int set_end(struct job *job, json_t *content)
{
    const struct choice *choice = &job->choices[0];
    bool word = choice->finish == FINISH_STOP && choice->stop >= 0;
    bool ended = choice->finish == FINISH_STOP && job->request.max_tokens != 0;
    json_t *end = json_pack("{s:o, s:b, s:s, s:s, s:I, s:I, s:I, s:b, s:o}", "content", content, "stop", true,
                            "stop_type", word ? "word" : ended ? "eos" : "limit", "stopping_word",
                            word ? job->request.stop[choice->stop] : "", "tokens_predicted",
                            (json_int_t)job->completion_tokens, "tokens_evaluated", (json_int_t)job->prompt_tokens,
                            "tokens_cached", (json_int_t)job->cached_tokens, "truncated", false, "timings",
                            timings(job));
    int failed = !end || json_object_update(job->head, end);
    if (job->extension)
        failed |= json_object_set(job->head, "hearth", job->extension);
    json_decref(end);
    return failed ? -1 : 0;
}

static int text(struct job *job, int index, const struct block *block, const char *text, size_t length,
                json_t *logprobs)
{
    (void)index, (void)block;
    json_decref(logprobs);
    if (json_object_set_new(job->head, "content", json_stringn(text, length)) ||
        json_object_set_new(job->head, "stop", json_false()))
        return -1;
    return answer_event(job, NULL, job->head);
}

static int ended(struct job *job)
{
    return set_end(job, json_string("")) ? -1 : answer_event(job, NULL, job->head);
}

static int stream_error(struct job *job, const struct api_error *error)
{
    json_t *object = api_error_json(error);
    int rc = answer_event(job, NULL, object);
    json_decref(object);
    return rc;
}

static int whole(struct job *job, struct bytes *body)
{
    if (set_end(job, answer_content(&job->choices[0])))
        return -1;
    bytes_add_json(body, job->head);
    return body->failed ? -1 : 0;
}

const struct answer_format format_infill = {
    .id_prefix = "infill-",
    .begin = begin,
    .block_text = text,
    .ended = ended,
    .stream_error = stream_error,
    .whole = whole,
};
