/* One line a happening, to standard error: time, level, message. The only mutable global of the program is its sink. */
#ifndef IMAGINED_BASE_LOG_H
#define IMAGINED_BASE_LOG_H

typedef enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } log_level;

/* Lines below `level` are dropped. `tag` ("front", "engine"), a string that stays valid, is printed on each line. */
void log_configure(log_level level, const char *tag);
/* Thread-safe; each line is one write, so lines of two processes do not mix. Control characters are replaced. */
void log_line(log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
