/* From the bytes of a body to a typed request: what is asked for, checked, before any model is
 * involved. Pure: any thread may parse. */
#ifndef HEARTH_API_REQUEST_H
#define HEARTH_API_REQUEST_H

#include <jansson.h>
#include <stdbool.h>

#include "../../engine/engine.h"
#include "errors.h"
#include "pieces.h"

enum api_endpoint {
    API_CHAT = 1,
    API_TEXT = 2,
    API_RESPONSES = 4, /* OpenAI's /v1/responses */
    API_MESSAGES = 8,  /* Anthropic's /v1/messages */
    API_TOKENIZE = 16,
    API_DETOKENIZE = 32,
    API_EMBEDDINGS = 64,
    API_INFILL = 128, /* llama.cpp's /infill */
    API_OLLAMA_CHAT = 256,
    API_OLLAMA_GENERATE = 512,
    API_OLLAMA_SHOW = 1024,
    API_OLLAMA = API_OLLAMA_CHAT | API_OLLAMA_GENERATE | API_OLLAMA_SHOW,
    API_PROMPT_ONLY = 1 << 16 /* with one of them: something about the prompt, and no answer of the model */
};

enum api_param_row {
#define PARAM(name, row, ...) PARAM_##row,
#include "params.def"
#undef PARAM
    PARAM_COUNT
};

struct api_param { /* one row of params.def */
    const char *name, *kind, *fallback, *meaning;
    double minimum, maximum;
    unsigned endpoints; /* API_CHAT | API_TEXT */
};
extern const struct api_param api_params[PARAM_COUNT];

struct api_prompt {
    const char *text;   /* NULL: ids. Belongs to the body */
    size_t length;
    struct ids ids;     /* given as ids, or filled in by api_prepare */
    size_t echo_skip;   /* leading ids that stand for no text (BOS) */
};

/* Owned by the caller: api_request_dispose. Strings and JSON members belong to `body`. */
struct api_request {
    enum api_endpoint endpoint;
    json_t *body;
    bool given[PARAM_COUNT];

    const char *model, *suffix, *end_user, *cache_salt, *cache_key;
    struct pieces_options pieces; /* how the text is read; filled in by api_prepare, but for the sink */
    json_t *messages, *tools, *template_kwargs;
    bool no_tools, add_generation_prompt, parallel_tool_calls;
    json_t *allowed;      /* of tool_choice: tools that may be called, by name; NULL: all */
    json_t *callable;     /* those of `tools` that may be; NULL: none */
    bool needs_call, one_call; /* at least, at most */
    bool old_calls;       /* chat: asked for by functions, and answered as function_call */
    bool continue_final_message;
    int thinking_budget;  /* tokens; -1: no bound */
    struct engine_thinking thinking; /* made by api_prepare */
    json_t *grammar_spec; /* what the text is to be, as engine_grammar takes it; NULL: anything */
    const char *grammar_param; /* the parameter that said so, a literal */
    struct grammar *grammar; /* made by api_prepare; NULL: none. Released with the request */
    json_t *made;         /* what was made beside `body`, an array; freed with it */
    json_t *input;        /* responses: items as they are kept; messages, Ollama's chat: as they came */
    json_t *system;       /* messages: strings that go before them */
    json_t *metadata;
    const char *instructions, *previous; /* responses: previous_response_id. Generate: the system message */
    const char *text;     /* generate: the prompt */
    json_t *options;      /* Ollama's, whose members are parameters */
    double keep_alive;    /* Ollama's, where it is given: seconds; negative: for ever */
    bool raw, unload;     /* unload: no more than that is asked */
    bool store;           /* responses: to be kept, where there is a store */
    bool continues;       /* responses: refers to what the store has */
    bool prompt_only;     /* API_PROMPT_ONLY was given */
    char *rendered;       /* chat, where only the prompt is asked for: its text; made by api_prepare */
    size_t rendered_length;
    bool add_special, parse_special, with_pieces; /* tokenize */
    enum engine_pooling pooling; /* NONE: no embedding is wanted, or before api_prepare the model's own */
    int dimensions;       /* of an embedding; 0: all */
    bool base64;          /* embeddings: not as numbers */
    const char *gap_prefix, *gap_prompt; /* infill: they go before the gap, `suffix` behind it */
    const json_t *files;  /* infill: objects with `text` and perhaps `filename`; NULL: none */
    struct api_prompt *prompts;
    size_t n_prompts;

    bool stream, include_usage, echo, logprobs, ignore_eos, cache_prompt, cache_explain;
    int priority;
    double timeout; /* seconds; 0: none */
    int n, best_of, n_top, max_tokens, max_completion_tokens;
    const char **stop;
    size_t n_stop;
    struct sampling_defaults sampling; /* negative: not given */
    double presence_penalty, frequency_penalty;
    int repeat_last_n; /* -1: all */
    double dry_multiplier, dry_base;
    int dry_allowed_length, dry_penalty_last_n;
    const char **dry_breakers; /* as given; else the usual ones */
    size_t n_dry_breakers;
    double xtc_probability, xtc_threshold;
    struct logit_bias *bias;
    size_t n_bias;
    struct engine_scale *scales; /* of LoRA adapters */
    size_t n_scales;
    int64_t seed;
};

/* Reads a body. `vocab` bounds token ids; where the model is not known yet, API_ANY_VOCAB, and api_check_ids
 * later. Returns 0, or -1 with *error; *request is always fit for
 * api_request_dispose. */
int api_request_parse(struct api_request *request, enum api_endpoint, const char *body, size_t length,
                      int vocab, struct api_error *error) WARN_UNUSED;
void api_request_dispose(struct api_request *);
/* The parameter that the prompt comes from. */
const char *api_prompt_name(const struct api_request *);
enum { API_ANY_VOCAB = INT32_MAX };
/* Token ids that were read without a model; as they came, before api_prepare. */
int api_check_ids(const struct api_request *, int vocab, struct api_error *) WARN_UNUSED;

/* For the readers of single parameters. */
/* Takes the reference to `value`, which then lives as long as the request; NULL without memory, or of NULL. */
json_t *api_request_keep(struct api_request *, json_t *value);
/* How much the model is to think, for its template: what chat_template_kwargs says goes first. budget: tokens; -1:
 * no bound. `effort` is one of OpenAI's words, or Anthropic's; `param` named it. */
int api_request_thinking(struct api_request *, bool enabled, int budget, struct api_error *) WARN_UNUSED;
int api_request_effort(struct api_request *, const char *effort, const char *param, struct api_error *) WARN_UNUSED;
enum { API_MAX_STOP = 64, API_MAX_STOP_BYTES = 1024, API_MAX_BREAKER_BYTES = 512, API_MAX_PROMPTS = 2048 };
/* A JSON number that is a whole one within int64: 5 and 5.0. */
bool api_json_integer(const json_t *, int64_t *out);
int api_read_messages(struct api_request *, json_t *, struct api_error *) WARN_UNUSED;
int api_read_prompt(struct api_request *, json_t *, const char *name, int vocab, struct api_error *) WARN_UNUSED;
int api_read_content(struct api_request *, json_t *, const char *name, struct api_error *) WARN_UNUSED;
int api_read_tokens(struct api_request *, json_t *, int vocab, struct api_error *) WARN_UNUSED;
int api_read_stop(struct api_request *, json_t *, const char *name, struct api_error *) WARN_UNUSED;
int api_read_breakers(struct api_request *, json_t *, const char *name, struct api_error *) WARN_UNUSED;
int api_read_logit_bias(struct api_request *, json_t *, int vocab, struct api_error *) WARN_UNUSED;

#endif
