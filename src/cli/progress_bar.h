/* One line on a terminal that says how far a picture is: phase, steps, seconds a step, time left. Silent where standard error is no
 * terminal. */
#ifndef IMAGINED_CLI_PROGRESS_BAR_H
#define IMAGINED_CLI_PROGRESS_BAR_H

#include <stdbool.h>

#include "imagined.h"

typedef struct progress_bar {
    bool shown;           /* standard error is a terminal and nobody asked for quiet */
    double first_step_at; /* seconds, when denoising began; 0 before */
    double last_drawn;
} progress_bar;

void progress_bar_start(progress_bar *b, bool quiet);
void progress_bar_draw(progress_bar *b, const imagined_progress *p);
void progress_bar_end(progress_bar *b); /* wipes the line */

/* The line itself, at most `columns` wide; `elapsed` seconds since the first step began. For tests. */
void progress_bar_format(char *line, unsigned long capacity, const imagined_progress *p, double elapsed, int columns);

#endif
