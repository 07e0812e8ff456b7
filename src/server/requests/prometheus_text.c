#include "server/requests/prometheus_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void prometheus_text_real(buffer *out, double value) {
    char text[32];
    if (isnan(value)) {
        buffer_append_text(out, "NaN");
    } else if (isinf(value)) {
        buffer_append_text(out, value > 0 ? "+Inf" : "-Inf");
    } else {
        snprintf(text, sizeof text, "%.15g", value);
        if (strtod(text, NULL) != value) snprintf(text, sizeof text, "%.17g", value);
        buffer_append_text(out, text);
    }
}

/* Help may hold quotes as they are; a label's value may not. */
static void append_escaped(buffer *out, const char *text, bool quoted) {
    for (size_t at = 0, size = strlen(text); at < size;) {
        size_t from = at;
        int32_t c = utf8_next(text, size, &at);
        if (c < 0) buffer_append_text(out, "\xEF\xBF\xBD");
        else if (c == '\\') buffer_append_text(out, "\\\\");
        else if (c == '\n') buffer_append_text(out, "\\n");
        else if (c == '"' && quoted) buffer_append_text(out, "\\\"");
        else buffer_append(out, text + from, at - from);
    }
}

void prometheus_text_family(buffer *out, const char *name, const char *type, const char *help) {
    buffer_printf(out, "# HELP %s ", name);
    append_escaped(out, help, false);
    buffer_printf(out, "\n# TYPE %s %s\n", name, type);
}

/* Name and labels, and the space before the value. `bound` (of a bucket) NULL: none. */
static void begin_sample(buffer *out, const char *name, const char *suffix, const prometheus_labels *labels, const char *bound) {
    const char *between = "{";
    buffer_printf(out, "%s%s", name, suffix);
    for (int i = 0; i < PROMETHEUS_LABELS && labels->of[i].name != NULL; i++) {
        buffer_printf(out, "%s%s=\"", between, labels->of[i].name);
        append_escaped(out, labels->of[i].value, true);
        buffer_append_byte(out, '"');
        between = ",";
    }
    if (bound != NULL) {
        buffer_printf(out, "%sle=\"%s\"", between, bound);
        between = ",";
    }
    buffer_append_text(out, between[0] == ',' ? "} " : " ");
}

void prometheus_text_sample(buffer *out, const char *name, prometheus_labels labels, uint64_t value) {
    begin_sample(out, name, "", &labels, NULL);
    buffer_printf(out, "%" PRIu64 "\n", value);
}

static void add_bucket(buffer *out, const char *name, const prometheus_labels *labels, const char *bound, uint64_t count) {
    begin_sample(out, name, "_bucket", labels, bound);
    buffer_printf(out, "%" PRIu64 "\n", count);
}

void prometheus_text_histogram(buffer *out, const char *name, prometheus_labels labels, const histogram *h) {
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        buffer bound = {0};
        prometheus_text_real(&bound, histogram_bounds[i]);
        out->failed |= bound.failed;
        add_bucket(out, name, &labels, buffer_text(&bound), h->at_most[i]);
        buffer_free(&bound);
    }
    add_bucket(out, name, &labels, "+Inf", h->count);
    begin_sample(out, name, "_sum", &labels, NULL);
    prometheus_text_real(out, h->sum);
    buffer_append_byte(out, '\n');
    begin_sample(out, name, "_count", &labels, NULL);
    buffer_printf(out, "%" PRIu64 "\n", h->count);
}
