/* Answers that are made of the prompt alone: how long it is, its tokens, their text, the rendered conversation,
 * or that there is none. */
#include "job.h"

#include "ollama.h"

static json_t *piece(const struct model *model, int32_t id)
{
    size_t length = 0;
    const char *bytes = engine_token_bytes(model, id, &length);
    json_t *text = json_stringn(bytes ? bytes : "", length);
    if (text)
        return text;
    /* Not whole characters: numbers, as llama.cpp's server has them. */
    json_t *numbers = json_array();
    for (size_t i = 0; i < length; i++)
        if (json_array_append_new(numbers, json_integer((unsigned char)bytes[i])))
            break;
    return numbers;
}

static json_t *tokens(const struct model *model, const struct ids *ids, bool with_pieces)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ids->n; i++) {
        json_t *id = json_integer(ids->ids[i]);
        if (with_pieces)
            id = json_pack("{s:o, s:o}", "id", id, "piece", piece(model, ids->ids[i]));
        if (json_array_append_new(list, id)) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:o, s:I}", "tokens", list, "count", (json_int_t)ids->n);
}

/* As llama.cpp's server names it, and as vLLM's does. */
static json_t *text(const struct model *model, const struct ids *ids)
{
    json_t *content = api_shape_text(model, ids->ids, ids->n);
    return json_pack("{s:O, s:o}", "content", content, "prompt", content);
}

static json_t *answer(const struct job *job)
{
    const struct api_request *request = &job->request;
    const struct ids *ids = request->prompts ? &request->prompts[0].ids : NULL;
    switch (request->endpoint) {
    case API_OLLAMA_CHAT:
    case API_OLLAMA_GENERATE: return ollama_residence_json(request, job->asked->name);
    case API_TOKENIZE: return tokens(job->model, ids, request->with_pieces);
    case API_DETOKENIZE: return text(job->model, ids);
    case API_CHAT: return json_pack("{s:s%}", "prompt", request->rendered, request->rendered_length);
    case API_RESPONSES:
        return json_pack("{s:s, s:I}", "object", "response.input_tokens", "input_tokens", (json_int_t)ids->n);
    default: return json_pack("{s:I}", "input_tokens", (json_int_t)ids->n);
    }
}

void job_reply_prompt(struct job *job)
{
    json_t *object = answer(job);
    bytes_add_json(&job->buffer, object);
    json_decref(object);
    if (job->buffer.failed) {
        job_fail_memory(job);
        return;
    }
    job->over = true;
    api_reply(job->api, job->http, 200, "application/json", NULL, job->buffer.data, job->buffer.length);
}
