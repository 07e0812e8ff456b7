#include <string.h>

#include "base/config.h"

enum { LONGEST_WORD = 64 };

static int least(int a, int b) { return a < b ? a : b; }

/* How many letters to insert, delete, change or swap with their neighbour to make b of a (optimal string alignment). */
static int distance(const char *a, size_t an, const char *b, size_t bn) {
    int rows[3][LONGEST_WORD + 1];
    for (size_t j = 0; j <= bn; j++) rows[0][j] = (int)j;
    for (size_t i = 1; i <= an; i++) {
        int *row = rows[i % 3], *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (int)i;
        for (size_t j = 1; j <= bn; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = least(row[j], above2[j - 2] + 1);
        }
    }
    return rows[an % 3][bn];
}

const char *config_nearest(const char *typed, const char *const *words, size_t count) {
    size_t n = strlen(typed);
    if (n == 0 || n > LONGEST_WORD) return NULL;
    const char *best = NULL;
    int best_distance = (n < 6 ? 1 : (int)n / 3) + 1; /* a third of the letters may be wrong, and one always */
    for (size_t i = 0; i < count; i++) {
        if (words[i] == NULL || strlen(words[i]) > LONGEST_WORD) continue;
        size_t m = strlen(words[i]);
        int d = distance(typed, n, words[i], m);
        if (n >= 3 && m > n && strncmp(typed, words[i], n) == 0) d = least(d, 1); /* the beginning of a word */
        if (d >= best_distance) continue;
        best_distance = d;
        best = words[i];
    }
    return best;
}
