/* Embeddings and infill: what reaches the engine, and the answers byte by byte. */
#include "api_fakes.h"

#include <criterion/criterion.h>
#include <string.h>

static struct http_request http;

static void embed(const char *body)
{
    fake_ask(&http, "POST", "/v1/embeddings", body);
}

static void infill(const char *body)
{
    fake_ask(&http, "POST", "/infill", body);
}

static void begin(void)
{
    fake_api(NULL, true);
}

static void end(void)
{
    fake_free(&http);
    fake_end();
}

TestSuite(api_vectors, .init = begin, .fini = end);

static void expect(int status, const char *body)
{
    cr_expect_eq(http.status, status, "%d", http.status);
    cr_expect_str_eq(http.sent, body, "%s", http.sent);
}

/* They may come in any order, and are listed in theirs. */
Test(api_vectors, a_list_of_embeddings)
{
    embed("{\"input\":[\"ab\",\"c\"],\"user\":\"u\"}");
    cr_assert_eq(fake.n_submitted, 2);
    const struct engine_request *q = &fake.submitted[0].request;
    cr_expect(q->embed == ENGINE_POOL_MEAN && q->max_tokens == 0 && q->choices == 1 && q->n_prompt == 2);
    fake_embedding(1, (float[4]){0, 0, -2, 0});
    fake_done(1, 0, FINISH_STOP, 0, true);
    cr_expect_eq(http.status, 0);
    fake_embedding(0, (float[4]){3, 4, 0, 0});
    fake_done(0, 0, FINISH_STOP, 0, true);
    expect(200, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                "\"embedding\":[0.600000024,0.800000012,0,0]},"
                "{\"object\":\"embedding\",\"index\":1,\"embedding\":[0,0,-1,0]}],\"model\":\"tiny\","
                "\"usage\":{\"prompt_tokens\":3,\"total_tokens\":3}}");
}

Test(api_vectors, the_first_dimensions_are_normalised_again)
{
    embed("{\"input\":[1,2],\"dimensions\":2,\"pooling\":\"last\",\"encoding_format\":\"base64\"}");
    cr_expect_eq(fake.submitted[0].request.embed, ENGINE_POOL_LAST);
    fake_embedding(0, (float[4]){0, 0.5f, 7, 7});
    fake_done(0, 0, FINISH_STOP, 0, true);
    cr_expect(strstr(http.sent, "\"embedding\":\"AAAAAAAAgD8=\""), "%s", http.sent);
}

Test(api_vectors, a_vector_of_zeros_stays_one)
{
    embed("{\"input\":[1,2],\"dimensions\":1}");
    fake_embedding(0, (float[4]){0, 1, 0, 0});
    fake_done(0, 0, FINISH_STOP, 0, true);
    cr_expect(strstr(http.sent, "\"embedding\":[0]"), "%s", http.sent);
}

Test(api_vectors, part_of_a_list_is_no_answer)
{
    embed("{\"input\":[\"ab\",\"c\"]}");
    fake_embedding(0, (float[4]){1, 0, 0, 0});
    fake_done(0, 0, FINISH_STOP, 0, true);
    fake_done(1, 0, FINISH_DEADLINE, 0, true);
    cr_expect_eq(http.status, 504);
}

Test(api_vectors, pooling_is_the_files)
{
    fake_model_info()->pooling = ENGINE_POOL_LAST;
    embed("{\"input\":\"a\"}");
    fake_model_info()->pooling = ENGINE_POOL_NONE;
    cr_expect_eq(fake.submitted[0].request.embed, ENGINE_POOL_LAST);
    fake_embedding(0, (float[4]){1, 0, 0, 0});
    fake_done(0, 0, FINISH_STOP, 0, true);
}

#define GAP "\"input_prefix\":\"a\",\"input_suffix\":\"b\""

Test(api_vectors, infill_whole)
{
    infill("{" GAP ",\"prompt\":\"c\",\"n_predict\":7,\"repeat_penalty\":1.5,\"stop\":[\"x\",\"y\"]}");
    const struct engine_request *q = &fake.submitted[0].request;
    cr_expect(q->embed == ENGINE_POOL_NONE && q->max_tokens == 7 && q->sampling.repetition_penalty == 1.5);
    cr_expect_eq(q->n_prompt, 6, "<ac|b>");
    fake_text(0, 0, "hello");
    fake_done(0, 0, FINISH_STOP, 2, true);
    cr_expect(strstr(http.sent, "\"content\":\"hello\",\"stop\":true,\"stop_type\":\"eos\",\"stopping_word\":\"\","
                                "\"tokens_predicted\":2,\"tokens_evaluated\":6,\"tokens_cached\":2,\"truncated\":false,"
                                "\"timings\":{\"cache_n\":2,\"prompt_n\":4,"), "%s", http.sent);
}

Test(api_vectors, infill_stream)
{
    infill("{" GAP ",\"stream\":true}");
    fake_text(0, 0, "he");
    fake_text(0, 0, "llo");
    fake_done(0, 0, FINISH_LENGTH, 2, true);
    cr_expect(strstr(http.fields, "Content-Type: text/event-stream\n"));
    cr_expect(strstr(http.sent, "\"content\":\"he\",\"stop\":false}\n\ndata: {\"index\":0,"), "%s", http.sent);
    cr_expect(strstr(http.sent, "\"content\":\"\",\"stop\":true,\"stop_type\":\"limit\""), "%s", http.sent);
    cr_expect(http.ended && !strstr(http.sent, "[DONE]"));
}

/* Editors fill the cache so. */
Test(api_vectors, infill_of_no_tokens_computes_the_prompt)
{
    infill("{" GAP ",\"n_predict\":0}");
    cr_expect_eq(fake.submitted[0].request.embed, ENGINE_POOL_LAST);
    fake_embedding(0, (float[4]){1, 0, 0, 0});
    fake_done(0, 0, FINISH_STOP, 0, true);
    cr_expect(strstr(http.sent, "\"content\":\"\",\"stop\":true,\"stop_type\":\"limit\""), "%s", http.sent);
}

Test(api_vectors, a_model_that_knows_no_gaps)
{
    fake_model_info()->has_fim = false;
    infill("{" GAP "}");
    fake_model_info()->has_fim = true;
    cr_expect_eq(http.status, 400);
    cr_expect(strstr(http.sent, "no middle"), "%s", http.sent);
}
