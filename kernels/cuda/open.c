/* Opening and closing: which card, what it can do, and the objects that stay as long as it is open. */
#include <string.h>

#include "driver.h"

#define DEPENDENT_DRIVER 12030 /* graphs keep dependent launches from CUDA 12.3 on */
#define LEAST_CAPABILITY 75    /* matrix fragments */
#define RESERVE ((size_t)256 << 20) /* memory that is left to the context, its graphs and other programs */

/* The card that a name means: "cuda:2" is 2, "cuda" 0; -1 for nonsense. */
static int card_number(const char *name)
{
    const char *colon = name ? strchr(name, ':') : NULL;
    if (!colon)
        return 0;
    char *end;
    long n = strtol(colon + 1, &end, 10);
    return colon[1] >= '0' && colon[1] <= '9' && *end == 0 && n < 1024 ? (int)n : -1;
}

/* Finds the card and its context. */
static int find_card(struct cuda *c, const char *name, char *card, int card_bytes, struct err *err)
{
    int number = card_number(name), count = 0, error, major = 0, minor = 0;
    if (number < 0)
        return err_set(err, ERR_INVALID, "%s names no card: cuda:0 is the first", name);
    snprintf(c->name, sizeof c->name, "cuda:%d", number);
    error = c->api.init(0);
    if (error == CUDA_NO_DEVICE)
        return err_set(err, ERR_UNSUPPORTED, "no CUDA: NVIDIA's driver finds no card");
    if (error == 0)
        error = c->api.driver_version(&c->version);
    if (error == 0)
        error = c->api.device_count(&count);
    if (error != 0) {
        struct err reason;
        cuda_error(c, error, "starting NVIDIA's driver", &reason);
        return err_set(err, ERR_UNSUPPORTED, "no CUDA: %s", reason.text);
    }
    if (number >= count)
        return err_set(err, ERR_UNSUPPORTED, "there is no cuda:%d: this machine has %d card%s", number, count,
                       count == 1 ? "" : "s");
    if ((error = c->api.device_get(&c->device, number)) != 0
        || (error = c->api.device_name(card, card_bytes, c->device)) != 0
        || (error = c->api.device_attribute(&major, CUDA_CAPABILITY_MAJOR, c->device)) != 0
        || (error = c->api.device_attribute(&minor, CUDA_CAPABILITY_MINOR, c->device)) != 0
        || (error = c->api.device_attribute(&c->cores, CUDA_MULTIPROCESSORS, c->device)) != 0)
        return cuda_error(c, error, "asking for the card's properties", err);
    c->arch = major * 10 + minor;
    if (c->arch < LEAST_CAPABILITY)
        return err_set(err, ERR_UNSUPPORTED, "%s (%s) has compute capability %d.%d; the kernels need 7.5 or later",
                       c->name, card, major, minor);
    c->dependent = c->arch >= 90 && c->version >= DEPENDENT_DRIVER;
    error = c->api.context_retain(&c->context, c->device);
    if (error != 0) {
        c->context = NULL;
        return cuda_error(c, error, "opening the card", err);
    }
    return 0;
}

/* What the driver needs on the card for its own work. */
static int make_objects(struct cuda *c, struct err *err)
{
    int error = c->api.context_set(c->context);
    if (error == 0)
        error = c->api.stream_create(&c->stream, CUDA_STREAM_NON_BLOCKING);
    if (error == 0)
        error = c->api.event_create(&c->begin, 0);
    if (error == 0)
        error = c->api.event_create(&c->end, 0);
    for (int i = 0; i < GPU_IN_FLIGHT && error == 0; i++)
        error = c->api.event_create(&c->list[i].end, CUDA_EVENT_DISABLE_TIMING);
    return error == 0 ? 0 : cuda_error(c, error, "preparing the card", err);
}

int cuda_open(void **state, const struct device_options *options, struct gpu_facts *facts, struct err *err)
{
    struct cuda *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "out of memory for a CUDA device");
    char card[72] = "";
    size_t left = 0, total = 0;
    int rc = cuda_api_load(&c->api, err);
    if (rc < 0) {
        free(c);
        return rc;
    }
    rc = find_card(c, options->name, card, sizeof card, err);
    if (rc == 0)
        rc = make_objects(c, err);
    struct cuda_function *function;
    if (rc == 0) /* so that what is missing for kernels shows now */
        rc = cuda_function(c, GPU_read_bandwidth, 0, &function, err);
    if (rc < 0)
        goto fail;
    int error = c->api.memory_info(&left, &total);
    if (error != 0) {
        rc = cuda_error(c, error, "asking for free memory", err);
        goto fail;
    }
    size_t reserve = RESERVE + total / 128;
    *facts = (struct gpu_facts){
        .simd_width = 32,
        .cores = c->cores,
        .memory = left > reserve ? left - reserve : 1,
        .int8_dot = true,
    };
    memcpy(facts->name, c->name, sizeof facts->name);
    snprintf(facts->description, sizeof facts->description, "%s, %d multiprocessors, %.0f GiB", card, c->cores,
             (double)total / 1073741824);
    *state = c;
    return 0;
fail:
    cuda_close(c);
    return rc;
}

/* Works after any failure too: whatever the driver still answers. */
void cuda_close(void *state)
{
    struct cuda *c = state;
    if (c->context) {
        c->api.context_set(c->context);
        if (c->stream)
            c->api.stream_wait(c->stream);
        cuda_drop_graphs(c);
        cuda_unload(c);
    }
    for (int i = 0; i < GPU_IN_FLIGHT; i++) {
        struct cuda_list *list = &c->list[i];
        if (list->pinned)
            c->api.pinned_free(list->pinned);
        if (list->end)
            c->api.event_destroy(list->end);
        free(list->copy);
    }
    if (c->begin)
        c->api.event_destroy(c->begin);
    if (c->end)
        c->api.event_destroy(c->end);
    if (c->stream)
        c->api.stream_destroy(c->stream);
    if (c->context)
        c->api.context_release(c->device);
    free(c->key);
    free(c);
}
