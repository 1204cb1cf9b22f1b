/* The models that are configured: which of them are loaded, who uses them, and which goes when another needs its
 * memory. They are loaded when a request asks for them and stay until they were idle for long or memory is short:
 * then the one that was used least recently goes, never while a request has it. All fit into the engine's budget.
 *
 * Everything here runs on the loop; files are read, models loaded and unloaded on the thread pool, one at a time. */
#ifndef HEARTH_API_SHELF_H
#define HEARTH_API_SHELF_H

#include <uv.h>

#include "../../engine/engine.h"
#include "errors.h"

enum served_state { SERVED_UNLOADED, SERVED_LOADING, SERVED_LOADED, SERVED_UNLOADING };

/* A file as it was: another one is tried again. */
struct file_stamp {
    uint64_t bytes, inode;
    int64_t changed; /* nanoseconds */
};

struct served {
    char *name, *path;             /* owned; a single model's name is its file's until it is loaded */
    struct sampling_defaults catalogue; /* after the file's */
    enum served_state state;
    struct model *model;           /* NULL unless SERVED_LOADED */
    uint64_t bytes;                /* that it takes while it is loaded; else 0 */
    int users;                     /* requests that hold it */
    bool closing;                  /* goes when its users have: new ones wait */
    uint64_t used, since;          /* uv_now: when its last user left; when it was loaded */
    double idle_seconds;           /* it is unloaded when nobody used it for so long; negative: never */
    uint64_t loads;                /* how often it was */
    struct model_needs needs;      /* of the file at `stamp` */
    bool measured;
    struct file_stamp stamp;
    struct err failure;            /* .code is not 0: what became of the file at `stamp` */
};

/* Whether it stays, however long nobody uses it. */
static inline bool served_stays(const struct served *served)
{
    return !(served->idle_seconds >= 0 && served->idle_seconds < 1e9);
}

struct shelf_model {
    const char *name, *path;       /* name NULL: as the file says, for a single model */
    struct sampling_defaults catalogue;
};
struct shelf_options {             /* what it points to stays until shelf_destroy */
    const struct shelf_model *models;
    size_t n_models;
    struct model_options model;    /* for each of them, but for name and memory */
    double idle_seconds;           /* a model that nobody used for so long is unloaded; 0: never */
    size_t queue;                  /* requests that may wait for models */
};

/* One request's place. All zeros before. */
struct shelf_wait {
    struct served *served;         /* NULL: has none */
    bool queued;                   /* waits, else it holds the model */
    const double *idle_seconds;    /* how the model is to be from now on; NULL: as configured */
    struct shelf_wait *next, *previous;
    /* The model is there, or (failure) will not be. From the loop, never from within shelf_take. */
    void (*ready)(struct shelf_wait *, const struct err *failure);
};

struct shelf {
    uv_loop_t *loop;
    struct shelf_options options;
    struct engine *engine;         /* NULL before shelf_start */
    struct engine_budget budget;
    struct served *served;         /* [n] */
    size_t n;
    uint64_t file_bytes;           /* of all files */
    struct shelf_wait *first, *last; /* those who wait, by age */
    size_t n_waiting;
    uv_timer_t timer;              /* the next look */
    bool closed;

    /* What the thread pool does. */
    uv_work_t work;
    enum { SHELF_IDLE, SHELF_MEASURES, SHELF_LOADS, SHELF_UNLOADS } does;
    struct served *subject;
    struct model_options load;
    struct model *loaded;          /* by the work under way, or what it unloads */
    struct err err;
};

int shelf_create(struct shelf **out, uv_loop_t *, const struct shelf_options *, struct err *) WARN_UNUSED;
/* The engine is there. A single model is loaded at once, blocking: its failure is returned. Any thread, while the
 * loop does nothing with the shelf. */
int shelf_open(struct shelf *, struct engine *, struct err *) WARN_UNUSED;
/* The same goes on, on the loop: from now on models can be asked for. */
void shelf_start(struct shelf *, struct engine *);
/* Nothing is loaded or unloaded any more; the loop must run once more before shelf_destroy. */
void shelf_close(struct shelf *);
void shelf_destroy(struct shelf *); /* NULL is fine */

/* The model of that name (NULL: none was given). While one is configured, every name means it. NULL with *error. */
struct served *shelf_find(struct shelf *, const char *name, struct api_error *error);
/* The model of exactly that name; NULL with *error. */
struct served *shelf_named(struct shelf *, const char *name, struct api_error *error);
/* Asks for a model. 1: it is there and held; 0: `ready` will be called; -1: *error tells why not. */
int shelf_take(struct shelf *, struct served *, struct shelf_wait *, struct api_error *error) WARN_UNUSED;
/* Gives it back, or gives up waiting. Nothing where it has none. */
void shelf_leave(struct shelf *, struct shelf_wait *);
/* Unloads a model, as soon as nobody uses it, unless it is asked for before. */
void shelf_dismiss(struct shelf *, struct served *);
/* What a failed load means in HTTP; returns -1. */
int shelf_error(struct api_error *, const struct served *, const struct err *failure);

/* ---- shelf_load.c ---- */

/* Starts one of the three on the thread pool; shelf_done is called when it is over. */
void shelf_begin(struct shelf *, int does, struct served *);
void shelf_done(struct shelf *);
/* Whether the file is another one than it was at served->stamp, which is then set. */
bool shelf_file_changed(struct served *);

#endif
