/* The one logger: lines to standard error, "level: text", with a timestamp when that is no
 * terminal. Thread-safe; a line that cannot be written (full disk, closed pipe) is dropped. */
#ifndef HEARTH_LOG_H
#define HEARTH_LOG_H

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level);
/* "error", "warning", "info", "debug" → level; -1 for anything else. */
int log_level_parse(const char *);
void log_write(enum log_level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

#endif
