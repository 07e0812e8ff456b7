/* Figures in Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats): "# HELP" and "# TYPE" of a
 * family, then its samples, each a line. A family's samples must follow it, and no two may have the same name and labels. A failed
 * allocation marks the buffer. */
#ifndef IMAGINED_SERVER_REQUESTS_PROMETHEUS_TEXT_H
#define IMAGINED_SERVER_REQUESTS_PROMETHEUS_TEXT_H

#include <stdint.h>

#include "base/buffer.h"
#include "queue/histogram.h"

#define PROMETHEUS_TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Any text will do as a value: it is escaped, and what is not UTF-8 becomes U+FFFD. */
typedef struct prometheus_label {
    const char *name, *value;
} prometheus_label;

enum { PROMETHEUS_LABELS = 3 };
/* Of one sample; ends with the first that has no name. */
typedef struct prometheus_labels {
    prometheus_label of[PROMETHEUS_LABELS];
} prometheus_labels;

/* type: "counter", "gauge" or "histogram". */
void prometheus_text_family(buffer *out, const char *name, const char *type, const char *help);
void prometheus_text_sample(buffer *out, const char *name, prometheus_labels labels, uint64_t value);
/* name_bucket for each bound and +Inf, name_sum (seconds) and name_count. */
void prometheus_text_histogram(buffer *out, const char *name, prometheus_labels labels, const histogram *h);
/* A number as the format writes it: the shortest of 15 or 17 digits that reads back as the same, "+Inf", "-Inf", "NaN". */
void prometheus_text_real(buffer *out, double value);

#endif
