/* A choice's blocks: made of the pieces that its reader finds, with their log-probabilities, and given to the
 * answer's format. */
#include "job.h"

#include <stdlib.h>
#include <string.h>

static struct block *add_block(struct choice *choice, const struct piece *piece)
{
    struct block *blocks = realloc(choice->blocks, (size_t)(choice->n_blocks + 1) * sizeof *blocks);
    if (!blocks)
        return NULL;
    choice->blocks = blocks;
    struct block *block = &blocks[choice->n_blocks];
    *block = (struct block){.kind = piece->block, .number = choice->n_blocks};
    if (piece->block == BLOCK_CALL) {
        unsigned char random[24];
        answer_random(choice->job, random);
        answer_id(block->id, sizeof block->id, choice->job->format->call_prefix, random, 12);
        block->name = strndup(piece->text, piece->length);
        if (!block->name)
            return NULL;
        block->call = choice->n_calls++;
    }
    choice->n_blocks++;
    return block;
}

static int add_block_text(struct choice *choice, struct block *block, const char *text, size_t length)
{
    struct job *job = choice->job;
    if (!job->request.stream || job->format->keeps_text) {
        bytes_add(&block->text, text, length);
        if (block->text.failed)
            return -1;
    }
    if (!job->request.stream)
        return 0;
    json_t *logprobs = choice->logprobs;
    choice->logprobs = NULL;
    return job->format->block_text(job, choice->index, block, text, length, logprobs);
}

int answer_piece(void *user, const struct piece *piece)
{
    struct choice *choice = user;
    const struct job *job = choice->job;
    const struct answer_format *format = job->format;
    struct block *block = choice->n_blocks > 0 ? &choice->blocks[choice->n_blocks - 1] : NULL;
    switch (piece->kind) {
    case PIECE_BEGIN:
        block = add_block(choice, piece);
        if (!block)
            return -1;
        if (!job->request.stream || !format->block_begun)
            return 0;
        return format->block_begun(choice->job, choice->index, block);
    case PIECE_TEXT:
        return add_block_text(choice, block, piece->text, piece->length);
    case PIECE_END:
        block->ended = true;
        if (!job->request.stream || !format->block_ended)
            return 0;
        return format->block_ended(choice->job, choice->index, block);
    }
    return -1;
}

int answer_flush(struct choice *choice)
{
    struct job *job = choice->job;
    if (!job->request.stream || !choice->logprobs)
        return 0;
    struct block *last = choice->n_blocks > 0 ? &choice->blocks[choice->n_blocks - 1] : NULL;
    if (last && !last->ended)
        return add_block_text(choice, last, "", 0);
    json_t *logprobs = choice->logprobs;
    choice->logprobs = NULL;
    if (job->format->block_ended) { /* nothing stands outside its blocks */
        json_decref(logprobs);
        return 0;
    }
    const struct block none = {.kind = BLOCK_CONTENT, .number = choice->n_blocks};
    return job->format->block_text(job, choice->index, &none, "", 0, logprobs);
}

static int add_logprobs(struct choice *choice, const struct engine_event *event)
{
    const struct job *job = choice->job;
    bool chat = !job->format->text_logprobs;
    if (!choice->logprobs)
        choice->logprobs = api_shape_logprobs(chat ? API_CHAT : API_TEXT, job->request.n_top);
    for (size_t i = 0; i < event->n_tokens; i++) {
        const struct engine_token *token = &event->tokens[i];
        if (chat) {
            if (api_shape_chat_token(choice->logprobs, job->model, token))
                return -1;
            continue;
        }
        if (api_shape_text_token(choice->logprobs, job->model, token->id, token->logprob, token->top, token->n_top,
                                 choice->offset))
            return -1;
        size_t length = 0;
        const char *bytes = engine_token_bytes(job->model, token->id, &length);
        choice->offset += api_shape_characters(bytes, length);
    }
    return choice->logprobs ? 0 : -1;
}

/* Tokens belong to the reasoning up to the one in which its end marker ends. */
static void count_reasoning(struct choice *choice, const struct engine_event *event)
{
    int64_t begin, end;
    pieces_reasoning(choice->pieces, &begin, &end);
    choice->bytes += (int64_t)event->length;
    if (begin < 0 || choice->thought)
        return;
    size_t n = event->n_tokens;
    choice->thought = end >= 0;
    for (int64_t behind = end >= 0 ? choice->bytes - end : 0; n > 0; n--) {
        size_t length = 0;
        (void)engine_token_bytes(choice->job->model, event->tokens[n - 1].id, &length);
        behind -= (int64_t)length;
        if (behind < 0)
            break;
    }
    choice->job->reasoning_tokens += (int64_t)n;
}

int answer_add_text(struct choice *choice, const struct engine_event *event)
{
    if (choice->job->request.logprobs && add_logprobs(choice, event))
        return -1;
    if (event->length > 0 && pieces_feed(choice->pieces, event->text, event->length))
        return -1;
    count_reasoning(choice, event);
    return pieces_holds(choice->pieces) ? 0 : answer_flush(choice);
}

json_t *answer_joined(const struct choice *choice, enum block_kind kind)
{
    struct bytes all = {0};
    bool any = false;
    for (int i = 0; i < choice->n_blocks; i++) {
        if (choice->blocks[i].kind != kind)
            continue;
        any = true;
        bytes_add(&all, choice->blocks[i].text.data, choice->blocks[i].text.length);
    }
    json_t *string = all.failed ? NULL : any ? json_stringn(all.data ? all.data : "", all.length) : json_null();
    bytes_dispose(&all);
    return string;
}

json_t *answer_content(const struct choice *choice)
{
    json_t *content = answer_joined(choice, BLOCK_CONTENT);
    if (!json_is_null(content) || choice->n_calls > 0)
        return content;
    return json_string("");
}

json_t *answer_arguments(const struct block *block)
{
    json_t *arguments = block->text.length > 0
                            ? json_loadb(block->text.data, block->text.length, JSON_ALLOW_NUL, NULL)
                            : NULL;
    if (json_is_object(arguments))
        return arguments;
    json_decref(arguments);
    return json_object();
}
