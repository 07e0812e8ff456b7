#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static struct {
    log_level level;
    const char *tag;
} sink = {LOG_INFO, "imagined"};

void log_configure(log_level level, const char *tag) {
    sink.level = level;
    sink.tag = tag;
}

void log_line(log_level level, const char *format, ...) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    if (level < sink.level) return;
    char line[1024], when[CLOCK_TEXT_BYTES];
    int n = snprintf(line, sizeof line, "%s %-7s %s: ", clock_format(clock_unix_ms(), when), names[level], sink.tag);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    size_t size = strlen(line);
    (void)m;
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)line[i] < 0x20) line[i] = ' ';
    line[size] = '\n';
    if (write(STDERR_FILENO, line, size + 1) < 0) return; /* nobody left to tell */
}
