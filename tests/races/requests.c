/* Four threads submit, cancel and give credit while one polls: every request that was taken ends
 * exactly once, and nothing comes for it afterwards. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "race_engine.h"

#define THREADS 4
#define EACH 60

static struct race_engine race;
static atomic_int accepted, ended, after_end, woken;
static atomic_bool over[THREADS * EACH];

static void wake(void *user)
{
    (void)user;
    atomic_fetch_add(&woken, 1);
}

static void *submit(void *argument)
{
    unsigned state = (unsigned)(size_t)argument + 1, first = (unsigned)(size_t)argument * EACH;
    struct err err;
    int32_t prompt[64];
    for (unsigned i = 0; i < EACH; i++) {
        for (int j = 0; j < 64; j++) prompt[j] = (int32_t)race_random(&state, 250);
        struct engine_request q = answer_request(race.model, prompt, 1 + race_random(&state, 64),
                                                 (int)race_random(&state, 20));
        q.sampling.temperature = 1;
        q.choices = 1 + (int)race_random(&state, 3);
        q.credit = (int)race_random(&state, 4);
        q.prompt_logprobs = q.logprobs = race_random(&state, 4) == 0;
        q.n_top = 2;
        q.user = (void *)&over[first + i];
        uint64_t id;
        while (engine_submit(race.engine, &q, &id, &err)) { /* the queue is small on purpose */
            if (err.code != ERR_BUSY) abort();
            nanosleep(&(struct timespec){0, 1000000}, NULL);
        }
        atomic_fetch_add(&accepted, 1);
        if (q.credit > 0) engine_credit(race.engine, id, 500);
        if (race_random(&state, 2)) engine_cancel(race.engine, id - race_random(&state, 3));
        if (race_random(&state, 3) == 0) {
            struct engine_status status;
            struct engine_slot slots[4];
            engine_status(race.engine, &status);
            engine_slots(race.engine, slots, 4);
        }
        struct ids ids;
        if (!engine_tokenize(race.model, "the same tokenizer", 18, TOKENIZE_PLAIN, &ids, &err)) free(ids.ids);
    }
    return NULL;
}

/* False where nothing has come. */
static bool poll_once(void)
{
    bool any = false;
    for (struct engine_event *event; (event = engine_poll(race.engine));) {
        atomic_bool *mine = event->user;
        if (atomic_load(mine)) atomic_fetch_add(&after_end, 1);
        if (event->kind == ENGINE_FAILED || event->last) {
            atomic_store(mine, true);
            atomic_fetch_add(&ended, 1);
        }
        engine_event_free(event);
        any = true;
    }
    return any;
}

int main(int argc, char **argv)
{
    pthread_t thread[THREADS];
    race_engine_open(&race, (struct engine_options){.parallel = 3, .queue = 12, .context = 512,
                                                    .step_tokens = 24,
                                                    .wake = wake}, argc, argv);
    for (size_t i = 0; i < THREADS; i++) {
        if (pthread_create(&thread[i], NULL, submit, (void *)i)) return 1;
    }
    for (int silent = 0; silent < 1200 && atomic_load(&ended) < THREADS * EACH; silent++) {
        engine_wait(race.engine, 0.05);
        if (poll_once()) silent = 0;
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    race_engine_close(&race);
    printf("%d requests, %d ended, %d events after an end, %d wakes\n", atomic_load(&accepted),
           atomic_load(&ended),
           atomic_load(&after_end), atomic_load(&woken));
    return accepted == THREADS * EACH && ended == accepted && after_end == 0 && woken > 0 ? 0 : 1;
}
