/* libFuzzer: any bytes as the body of a request. The first byte chooses the endpoint. */
#include "../../server/api/request.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* As http_body gives it: with a NUL after the end. */
    char *body = malloc(size);
    if (!body)
        return 0;
    memcpy(body, data + 1, size - 1);
    body[size - 1] = '\0';

    struct api_request request;
    struct api_error error = {0};
    static const enum api_endpoint endpoints[] = {API_TEXT, API_CHAT, API_RESPONSES, API_MESSAGES,
                                                  API_OLLAMA_CHAT, API_OLLAMA_GENERATE, API_EMBEDDINGS, API_INFILL};
    int failed = api_request_parse(&request, endpoints[data[0] % (sizeof endpoints / sizeof *endpoints)], body, size - 1, 1000, &error);
    REQUIRE(failed ? error.status >= 400 && error.err.text[0] : request.n > 0);
    if (failed) {
        json_t *answer = api_error_json(&error);
        REQUIRE(answer);
        json_decref(answer);
    }
    api_request_dispose(&request);
    free(body);
    return 0;
}
