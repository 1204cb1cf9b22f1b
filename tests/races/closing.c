/* Engines that are closed while requests are queued, prefilled, generated and paused, and while
 * another thread has just cancelled some of them. */
#include <pthread.h>
#include <time.h>

#include "race_engine.h"

#define ROUNDS 12

static struct race_engine race;
static uint64_t ids[16];

static void *cancel(void *argument)
{
    (void)argument;
    for (int i = 0; i < 16; i += 3) engine_cancel(race.engine, ids[i]);
    for (int i = 0; i < 16; i++) engine_credit(race.engine, ids[i], 1);
    engine_drain(race.engine);
    return NULL;
}

int main(int argc, char **argv)
{
    int32_t prompt[100];
    struct err err;
    for (int i = 0; i < 100; i++) prompt[i] = i;
    for (int round = 0; round < ROUNDS; round++) {
        race_engine_open(&race, (struct engine_options){.parallel = 4, .step_tokens = 16}, argc, argv);
        for (int i = 0; i < 16; i++) {
            struct engine_request q = answer_request(race.model, prompt, (size_t)(10 + i * 5), 100);
            q.ignore_eos = true;
            q.choices = 1 + i % 3;
            q.credit = i % 4;
            if (engine_submit(race.engine, &q, &ids[i], &err)) return 1;
        }
        pthread_t thread;
        struct timespec moment = {0, round * 2000000L};
        nanosleep(&moment, NULL);
        if (pthread_create(&thread, NULL, cancel, NULL)) return 1;
        if (round % 2) engine_event_free(engine_poll(race.engine));
        pthread_join(thread, NULL);
        race_engine_close(&race);
    }
    return 0;
}
