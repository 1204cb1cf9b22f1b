/* Asks the thread pool, waits, answers. */
#include "look.h"

#include <stdlib.h>

#include "../../engine/log.h"

static void work(uv_work_t *handle)
{
    struct look *look = handle->data;
    look->read(look);
    if (!look->answer && !look->error.status)
        api_error_memory(&look->error);
}

static void reply(struct look *look)
{
    struct bytes body = {0};
    if (look->answer)
        bytes_add_json(&body, look->answer);
    if (look->answer && body.failed)
        api_error_memory(&look->error);
    if (look->error.status) {
        api_refuse(look->api, look->http, &look->error);
    } else {
        log_info("%s %s 200", http_method(look->http), http_path(look->http));
        api_reply(look->api, look->http, 200, "application/json", NULL, body.data, body.length);
    }
    bytes_dispose(&body);
}

static void work_done(uv_work_t *handle, int status)
{
    struct look *look = handle->data;
    struct api *api = look->api;
    (void)status; /* never cancelled */
    if (look->http) {
        http_set_user(look->http, NULL, NULL);
        reply(look);
    }
    json_decref(look->answer);
    free(look);
    if (--api->n_looks == 0 && api->n_jobs == 0 && api->options.idle)
        api->options.idle(api->options.user);
}

static void client_gone(void *data, bool finished)
{
    struct look *look = data;
    (void)finished;
    look->http = NULL;
}

void look_begin(struct look *look, struct api *api, struct http_request *http)
{
    struct api_error error;
    if (look) {
        look->api = api;
        look->http = http;
        look->work.data = look;
    }
    if (!look || uv_queue_work(api->loop, &look->work, work, work_done)) {
        free(look);
        api_error_memory(&error);
        api_refuse(api, http, &error);
        return;
    }
    api->n_looks++;
    http_set_user(http, look, client_gone);
}
