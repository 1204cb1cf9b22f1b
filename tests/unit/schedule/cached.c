/* What outlives an engine on the disk, what is computed before anybody asks, and why a prompt was not cached. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../engine/log.h"
#include "../../support/answers.h"
#include "../../support/tiny_model.h"

#define PATIENCE 60.0

static char path[64], directory[64];
static struct engine *engine;
static struct model *model;
static struct err err;
static int32_t prompt[400];

static void write_model(struct tiny_model_options tiny)
{
    cr_assert_eq(tiny_model_write(&tiny, path, &err), 0, "%s", err.text);
}

static void setup(void)
{
    log_set_level(LOG_ERROR);
    snprintf(path, sizeof path, "/tmp/hearth-cached-%d.gguf", (int)getpid());
    snprintf(directory, sizeof directory, "/tmp/hearth-cached-%d", (int)getpid());
    write_model((struct tiny_model_options){.seed = 3});
    for (int i = 0; i < 400; i++) prompt[i] = (i * 37 + 11) % 250;
}

static void each_file(void (*act)(const char *path))
{
    char file[512];
    DIR *list = opendir(directory);
    for (struct dirent *e; list && (e = readdir(list));) {
        snprintf(file, sizeof file, "%s/%s", directory, e->d_name);
        if (e->d_name[0] != '.') act(file);
    }
    if (list) closedir(list);
}

static int n_files;

static void count(const char *file)
{
    (void)file;
    n_files++;
}

static void remove_file(const char *file)
{
    unlink(file);
}

static int files(void)
{
    n_files = 0;
    each_file(count);
    return n_files;
}

static void teardown(void)
{
    engine_close(engine);
    each_file(remove_file);
    rmdir(directory);
    unlink(path);
}

TestSuite(cached, .init = setup, .fini = teardown, .timeout = 120);

static void open_with(struct engine_options options, struct model_options load)
{
    options.device = options.device ? options.device : "reference";
    options.threads = 1;
    cr_assert_eq(engine_open(&engine, &options, &err), 0, "%s", err.text);
    cr_assert_eq(engine_load(engine, path, &load, &model, &err), 0, "%s", err.text);
}

static void start(void)
{
    open_with((struct engine_options){.cache_directory = directory, .parallel = 2}, (struct model_options){0});
}

static void restart(void)
{
    engine_close(engine);
    start();
}

static struct engine_request request(int n)
{
    struct engine_request q = answer_request(model, prompt, (size_t)n, 20);
    q.ignore_eos = true;
    q.sampling.temperature = 1;
    q.sampling.seed = 5;
    return q;
}

static struct answer *ask(struct engine_request q)
{
    struct answer *a = answer_create();
    answer_submit(a, engine, q);
    cr_assert(answer_wait(a, engine, PATIENCE));
    cr_assert_not(a->failed, "%s", a->end.err.text);
    return a;
}

/* The answer is the same as `expected` (NULL: any), and so much of the prompt was cached. */
static struct answer *expect(struct engine_request q, int cached, const struct answer *expected)
{
    struct answer *a = ask(q);
    cr_expect_eq(a->end.cached_tokens, cached, "%d cached, not %d", a->end.cached_tokens, cached);
    if (expected) {
        cr_expect_arr_eq(a->choice[0].ids, expected->choice[0].ids, 20 * sizeof(int32_t));
        cr_expect_str_eq(a->choice[0].text, expected->choice[0].text);
    }
    return a;
}

/* ---- the disk ---- */

Test(cached, a_prefix_survives_a_restart)
{
    start();
    struct answer *first = expect(request(300), 0, NULL);
    restart();
    free(expect(request(300), 288, first));
    free(expect(request(300), 288, first)); /* from memory now */
    engine_close(engine);
    cr_expect_eq(files(), 9); /* the last token of the output was never computed: there is no tenth block */
    start();
    free(first);
}

Test(cached, output_is_kept_too)
{
    start();
    struct answer *first = expect(request(300), 0, NULL);
    int32_t longer[400];
    memcpy(longer, prompt, 300 * sizeof *longer);
    for (int i = 0; i < 20; i++) longer[300 + i] = first->choice[0].ids[i];
    for (int i = 320; i < 350; i++) longer[i] = 9;
    struct engine_request q = request(350);
    q.prompt = longer;
    free(ask(q));
    restart();
    q.model = model;
    free(expect(q, 320, NULL));
    free(first);
}

Test(cached, short_texts_are_not_kept)
{
    start();
    free(ask(request(230)));
    engine_close(engine);
    cr_expect_eq(files(), 0);
    start();
}

Test(cached, saved_while_idle)
{
    start();
    free(ask(request(300)));
    for (int i = 0; i < 5000 && files() < 9; i++) usleep(1000);
    cr_expect_eq(files(), 9);
}

/* Everything that changes K and V has keys of its own. */
Test(cached, other_weights_have_other_keys)
{
    start();
    free(ask(request(300)));
    engine_close(engine);
    write_model((struct tiny_model_options){.seed = 4});
    start();
    free(expect(request(300), 0, NULL));
    engine_close(engine);
    write_model((struct tiny_model_options){.seed = 3});
    start();
    free(expect(request(300), 288, NULL));
}

Test(cached, other_rope_settings_have_other_keys)
{
    start();
    free(ask(request(300)));
    engine_close(engine);
    write_model((struct tiny_model_options){.seed = 3, .yarn = 2});
    start();
    free(expect(request(300), 0, NULL));
}

Test(cached, another_device_has_other_keys)
{
    start();
    free(ask(request(300)));
    engine_close(engine);
    open_with((struct engine_options){.cache_directory = directory, .device = "cpu", .isa = "scalar"},
              (struct model_options){0});
    free(expect(request(300), 0, NULL));
}

static void open_cpu(const char *kv_type)
{
    open_with((struct engine_options){.cache_directory = directory, .device = "cpu", .kv_type = kv_type},
              (struct model_options){0});
}

Test(cached, another_kv_type_has_other_keys)
{
    write_model((struct tiny_model_options){.seed = 3, .head_dim = 32});
    open_cpu(NULL);
    struct answer *first = expect(request(300), 0, NULL);
    engine_close(engine);
    open_cpu("q8_0");
    struct answer *q8 = expect(request(300), 0, NULL);
    engine_close(engine);
    open_cpu("q8_0");
    free(expect(request(300), 288, q8));
    engine_close(engine);
    open_cpu(NULL);
    free(expect(request(300), 288, first));
    free(first);
    free(q8);
}

Test(cached, salt_and_privacy_hold_on_the_disk)
{
    start();
    struct engine_request salted = request(300), private = request(300);
    salted.cache_salt = "mine";
    private.no_cache = true;
    free(ask(private));
    engine_close(engine);
    cr_expect_eq(files(), 0);
    start();
    salted.model = private.model = model;
    free(ask(salted));
    restart();
    salted.model = private.model = model;
    free(expect(private, 0, NULL));
    free(expect(request(300), 0, NULL));
    free(expect(salted, 288, NULL));
}

static void damage(const char *file)
{
    if (n_files++ != 4) return;
    FILE *f = fopen(file, "r+b");
    cr_assert(f);
    fseek(f, -100, SEEK_END);
    fputc(fgetc(f) ^ 1, f);
    fclose(f);
}

Test(cached, damage_costs_what_lies_behind_it)
{
    start();
    struct answer *first = ask(request(300));
    engine_close(engine);
    n_files = 0;
    each_file(damage);
    start();
    struct answer *again = ask(request(300));
    cr_expect_lt(again->end.cached_tokens, 288);
    cr_expect_str_eq(again->choice[0].text, first->choice[0].text);
    restart();
    free(expect(request(300), 288, first)); /* written anew */
    free(first);
    free(again);
}

Test(cached, the_disk_helps_where_memory_is_short)
{
    open_with((struct engine_options){.cache_directory = directory, .parallel = 1, .context = 384},
              (struct model_options){0});
    struct answer *first = ask(request(300));
    for (int i = 0; i < 5000 && files() < 9; i++) usleep(1000);
    struct engine_request other = request(340);
    other.prompt = prompt + 50;
    free(ask(other)); /* takes most of the 12 blocks */
    struct answer *again = expect(request(300), 288, first);
    free(first);
    free(again);
}

/* Another stream goes on while blocks are fetched, one step in flight all the time. */
static void fetch_beside_a_stream(int in_flight)
{
    start();
    struct answer *first = ask(request(300));
    engine_close(engine);
    open_with((struct engine_options){.cache_directory = directory, .parallel = 2, .in_flight = in_flight},
              (struct model_options){0});
    struct engine_request q = request(20);
    q.prompt = prompt + 100;
    q.max_tokens = 300;
    struct answer *stream = answer_create();
    answer_submit(stream, engine, q);
    while (stream->n_text_events < 10) {
        answers_poll(engine);
        engine_wait(engine, 1);
    }
    free(expect(request(300), 288, first));
    cr_assert(answer_wait(stream, engine, PATIENCE));
    q.no_cache = true;
    struct answer *alone = ask(q);
    cr_expect_arr_eq(alone->choice[0].ids, stream->choice[0].ids, 300 * sizeof(int32_t));
    free(first);
    free(stream);
    free(alone);
}

Test(cached, fetches_beside_a_stream)
{
    fetch_beside_a_stream(1);
}

Test(cached, fetches_with_steps_in_flight)
{
    fetch_beside_a_stream(2);
}

/* ---- warm prefixes ---- */

static const char system_prompt[] = "You are the helper of a small library. Answer in one sentence, name the "
                                    "shelf, and never make up a book that the catalogue does not have.";

static struct engine_request conversation(const char *system, const char *user, struct rendered *r)
{
    json_t *input = json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "messages", "role", "system", "content", system,
                              "role", "user", "content", user);
    cr_assert_eq(engine_render(model, input, r, &err), 0, "%s", err.text);
    json_decref(input);
    struct engine_request q = answer_request(model, r->ids.ids, r->ids.n, 20);
    q.ignore_eos = true;
    return q;
}

static int cached_in_memory(void)
{
    struct engine_status status;
    engine_status(engine, &status);
    return status.kv_blocks_cached;
}

Test(cached, warm_prefixes_are_there_before_anybody_asks)
{
    const char *const warm[] = {system_prompt, "too short", NULL};
    struct rendered r;
    open_with((struct engine_options){.parallel = 2, .context = 512}, (struct model_options){.warm = warm});
    for (int i = 0; i < 5000 && cached_in_memory() < 4; i++) usleep(1000);
    cr_expect_null(engine_poll(engine), "it says nothing");
    struct answer *a = ask(conversation(system_prompt, "Where are the maps?", &r));
    cr_expect_geq(a->end.cached_tokens, 128);
    engine_rendered_free(&r);
    /* others take all the memory that is not pinned, again and again */
    for (int i = 0; i < 5; i++) {
        struct engine_request q = request(350);
        q.prompt = prompt + 10 * i;
        free(ask(q));
    }
    struct answer *b = ask(conversation(system_prompt, "Where are the maps?", &r));
    cr_expect_geq(b->end.cached_tokens, 128);
    cr_expect_str_eq(a->choice[0].text, b->choice[0].text);
    engine_rendered_free(&r);
    free(a);
    free(b);
}

/* A text as long as the context needs every block: what is pinned gives way. */
Test(cached, warm_prefixes_give_way_in_the_end)
{
    const char *const warm[] = {system_prompt, NULL};
    struct rendered r;
    open_with((struct engine_options){.parallel = 2, .context = 384}, (struct model_options){.warm = warm});
    struct engine_request q = request(360);
    q.max_tokens = 24;
    free(ask(q));
    struct answer *a = ask(conversation(system_prompt, "Where?", &r));
    cr_expect_eq(a->end.cached_tokens, 0);
    engine_rendered_free(&r);
    free(a);
    free(ask(request(200)));
    a = ask(conversation(system_prompt, "When?", &r)); /* and is pinned again */
    cr_expect_geq(a->end.cached_tokens, 128);
    engine_rendered_free(&r);
    free(a);
}

/* ---- explanations ---- */

static struct answer *explained(const int32_t *ids, int n)
{
    struct engine_request q = request(n);
    q.prompt = ids;
    q.max_tokens = 1;
    q.explain_cache = true;
    struct answer *a = ask(q);
    cr_assert(a->explained);
    return a;
}

Test(cached, tells_where_a_prompt_leaves_the_cache)
{
    int32_t ids[200];
    open_with((struct engine_options){.parallel = 2}, (struct model_options){0});
    memcpy(ids, prompt, sizeof ids);
    struct answer *a = explained(ids, 200);
    cr_expect_eq(a->end.cached_tokens, 0);
    cr_expect_eq(a->explain.diverges, 0);
    cr_expect_eq(a->explain.n_before, 0);
    cr_expect_eq(a->explain.n_cached, 0, "nothing is cached at all");
    cr_expect_eq(a->explain.prompt[0], prompt[0]);
    free(a);

    ids[75] = 3;
    a = explained(ids, 200);
    cr_expect_eq(a->end.cached_tokens, 64);
    cr_expect_eq(a->explain.diverges, 75);
    cr_expect_eq(a->explain.n_before, ENGINE_EXPLAIN_TOKENS);
    cr_expect_arr_eq(a->explain.before, prompt + 75 - ENGINE_EXPLAIN_TOKENS, sizeof a->explain.before);
    cr_expect_eq(a->explain.n_prompt, ENGINE_EXPLAIN_TOKENS);
    cr_expect_arr_eq(a->explain.prompt, ids + 75, sizeof a->explain.prompt);
    cr_expect_eq(a->explain.n_cached, ENGINE_EXPLAIN_TOKENS);
    cr_expect_arr_eq(a->explain.cached, prompt + 75, sizeof a->explain.cached);
    free(a);

    ids[90] = 3; /* the nearest is the text that also has the other change, and its next block is read on */
    a = explained(ids, 200);
    cr_expect_eq(a->explain.diverges, 90);
    cr_expect_eq(a->explain.n_cached, ENGINE_EXPLAIN_TOKENS);
    cr_expect_arr_eq(a->explain.cached, prompt + 90, sizeof a->explain.cached);
    free(a);

    a = explained(ids, 192); /* all there, but the last token is computed in any case */
    cr_expect_eq(a->end.cached_tokens, 160);
    cr_expect_eq(a->explain.diverges, 192);
    cr_expect_eq(a->explain.n_prompt, 0);
    free(a);

    struct engine_request q = request(200);
    q.explain_cache = q.no_cache = true;
    a = ask(q);
    cr_expect_not(a->explained);
    free(a);
}

Test(cached, shows_nobody_the_texts_of_others)
{
    int32_t ids[200];
    open_with((struct engine_options){.parallel = 2}, (struct model_options){0});
    free(ask(request(200)));
    memcpy(ids, prompt, sizeof ids);
    ids[75] = 3;
    struct engine_request q = request(200);
    q.prompt = ids;
    q.owner = 1;
    q.explain_cache = true;
    struct answer *a = ask(q);
    cr_expect_eq(a->end.cached_tokens, 64);
    cr_expect_eq(a->explain.diverges, 64, "how far its block goes along is not told");
    cr_expect_eq(a->explain.n_cached, 0);
    free(a);

    ids[80] = 3;
    a = ask(q);
    cr_expect_eq(a->explain.diverges, 80, "its own text");
    cr_expect_arr_eq(a->explain.cached, prompt + 80, sizeof a->explain.cached);
    free(a);
}
