/* What the shelf does on the thread pool, and the look at files. */
#include "shelf.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../engine/log.h"

bool shelf_file_changed(struct served *served)
{
    struct stat about;
    struct file_stamp now = {0};
    if (stat(served->path, &about) == 0) {
        now.bytes = (uint64_t)about.st_size;
        now.inode = (uint64_t)about.st_ino;
#ifdef __APPLE__
        now.changed = (int64_t)about.st_mtimespec.tv_sec * 1000000000 + about.st_mtimespec.tv_nsec;
#else
        now.changed = (int64_t)about.st_mtim.tv_sec * 1000000000 + about.st_mtim.tv_nsec;
#endif
    }
    bool same = now.bytes == served->stamp.bytes && now.inode == served->stamp.inode &&
                now.changed == served->stamp.changed;
    served->stamp = now;
    return !same;
}

static void work(uv_work_t *work)
{
    struct shelf *shelf = work->data;
    struct served *served = shelf->subject;
    int code = 0;
    if (shelf->does == SHELF_MEASURES)
        code = engine_measure(shelf->engine, served->path, &shelf->load, &served->needs, &shelf->err);
    else if (shelf->does == SHELF_LOADS)
        code = engine_load(shelf->engine, served->path, &shelf->load, &shelf->loaded, &shelf->err);
    else
        code = engine_unload(shelf->engine, shelf->loaded, &shelf->err);
    if (code == 0)
        shelf->err.code = ERR_OK;
}

static void work_done(uv_work_t *work, int status)
{
    (void)status; /* never cancelled */
    shelf_done(work->data);
}

void shelf_begin(struct shelf *shelf, int does, struct served *served)
{
    shelf->does = does;
    shelf->subject = served;
    shelf->loaded = does == SHELF_UNLOADS ? served->model : NULL;
    if (does == SHELF_UNLOADS)
        served->model = NULL; /* the loop looks at it no more */
    shelf->work.data = shelf;
    if (does != SHELF_MEASURES)
        served->state = does == SHELF_LOADS ? SERVED_LOADING : SERVED_UNLOADING;
    REQUIRE(uv_queue_work(shelf->loop, &shelf->work, work, work_done) == 0);
}
