/* libFuzzer target: any bytes as a chat template, rendered over a fixed conversation. */
#include "../../engine/text/chat.h"
#include "../../engine/text/template.h"
#include "../../engine/text/tokenizer.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be \\u00fcseful.\"}, {\"role\": \"user\", "
    "\"content\": \" Hi\\n \"},"
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"c\", \"type\": \"function\", "
    "\"function\":"
    "{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": [1, 2.5, true, null]}\"}}]},"
    "{\"role\": \"tool\", \"tool_call_id\": \"c\", \"content\": \"<|im_end|>\"}],"
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": "
    "\"object\"}}}],"
    "\"chat_template_kwargs\": {\"a\": 1, \"b\": \"text\", \"c\": [3, \"x\", null], \"d\": {\"k\": -0.5}}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *context;
    struct err err = {0};
    struct template *template;
    struct template_output out;
    if (!context) {
        json_t *input = json_loads(conversation, 0, NULL);
        REQUIRE(chat_context(input, "<s>", "</s>", &context, &err) == 0);
        json_decref(input);
    }
    int rc = template_compile(&template, (const char *)data, size, &err);
    REQUIRE(rc == err.code);
    if (rc)
        return 0;
    rc = template_render(template, context, &out, &err);
    REQUIRE(rc == err.code);
    if (rc == 0) {
        REQUIRE(out.text[out.length] == 0);
        for (size_t i = 0; i < out.length; i++)
            REQUIRE(out.origin[i] <= ORIGIN_PLAIN);
        free(out.text);
        free(out.origin);
    }
    template_destroy(template);
    return 0;
}
