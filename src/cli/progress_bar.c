#include "cli/progress_bar.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

enum { BAR_CELLS = 24 };

void progress_bar_start(progress_bar *b, bool quiet) { *b = (progress_bar){.shown = !quiet && isatty(STDERR_FILENO)}; }

static const char *phase_words(const char *phase) {
    if (strcmp(phase, "load") == 0) return "loading the model";
    if (strcmp(phase, "encode") == 0) return "reading the prompt";
    if (strcmp(phase, "decode") == 0) return "decoding";
    return "denoising";
}

void progress_bar_format(char *line, unsigned long capacity, const imagined_progress *p, double elapsed, int columns) {
    char bar[BAR_CELLS * 3 + 1] = "", rate[48] = "";
    int full = p->steps > 0 ? p->step * BAR_CELLS / p->steps : 0;
    for (int i = 0; i < BAR_CELLS; i++) strcat(bar, i < full ? "█" : "░");
    if (p->step > 0 && elapsed > 0) {
        double each = elapsed / p->step, left = each * (p->steps - p->step);
        snprintf(rate, sizeof rate, "  %.2f s/it  %d:%02d left", each, (int)left / 60, (int)left % 60);
    }
    snprintf(line, capacity, "%-18s %s %d/%d%s", phase_words(p->phase), bar, p->step, p->steps, rate);
    /* A line that wraps cannot be redrawn in place: on a narrow terminal the bar goes first. */
    if (18 + 1 + BAR_CELLS + 8 + (int)strlen(rate) > columns) snprintf(line, capacity, "%d/%d%s", p->step, p->steps, rate);
}

void progress_bar_draw(progress_bar *b, const imagined_progress *p) {
    if (!b->shown) return;
    double now = clock_seconds();
    bool denoising = strcmp(p->phase, "denoise") == 0;
    if (denoising && b->first_step_at == 0) b->first_step_at = now;
    /* Ten redraws a second are enough for the eye. */
    if (denoising && p->step != 0 && now - b->last_drawn < 0.1) return;
    b->last_drawn = now;
    struct winsize size;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    char line[256];
    progress_bar_format(line, sizeof line, p, b->first_step_at > 0 ? now - b->first_step_at : 0, columns);
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
}

void progress_bar_end(progress_bar *b) {
    if (b->shown) fprintf(stderr, "\r\033[K");
}
