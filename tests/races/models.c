/* One thread loads and unloads a model, others ask another one: for the thread sanitizer. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "../support/answers.h"
#include "../support/tiny_model.h"
#include "race_engine.h"

#define ROUNDS 15

static struct race_engine r;
static atomic_bool over;

static void must(int rc, const struct err *err)
{
    if (!rc) return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static void *come_and_go(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        struct err err = {0};
        struct model *m;
        struct model_needs needs;
        must(engine_measure(r.engine, r.path, &(struct model_options){0}, &needs, &err), &err);
        must(engine_load(r.engine, r.path, &(struct model_options){.name = "other"}, &m, &err), &err);
        must(engine_unload(r.engine, m, &err), &err);
    }
    atomic_store(&over, true);
    return NULL;
}

int main(int argc, char **argv)
{
    static const int32_t prompt[] = {5, 6, 7, 8, 9};
    pthread_t thread;
    race_engine_open(&r, (struct engine_options){.parallel = 4}, argc, argv);
    if (pthread_create(&thread, NULL, come_and_go, NULL)) return 1;
    int n = 0;
    while (!atomic_load(&over)) {
        struct answer *a[3];
        struct engine_status status;
        struct engine_slot slots[8];
        for (int i = 0; i < 3; i++) {
            a[i] = answer_create();
            answer_submit(a[i], r.engine, answer_request(r.model, prompt, 5, 20));
        }
        engine_status(r.engine, &status);
        engine_slots(r.engine, slots, 8);
        for (int i = 0; i < 3; i++) {
            if (!answer_wait(a[i], r.engine, 60) || a[i]->failed) return 1;
            free(a[i]);
        }
        n++;
    }
    pthread_join(thread, NULL);
    race_engine_close(&r);
    return n > 0 ? 0 : 1;
}
