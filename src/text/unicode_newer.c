#include "text/unicode_newer.h"

#include <stddef.h>

typedef struct range {
    int32_t first, last;
} range;

/* Unicode 16's additions to \p{L} and \p{N} (DerivedGeneralCategory.txt), in order. */
static const range letters[] = {
    {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3}, {0x10D4A, 0x10D65}, {0x10D6F, 0x10D85},
    {0x10EC2, 0x10EC4}, {0x11380, 0x11389}, {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113B7},
    {0x113D1, 0x113D1}, {0x113D3, 0x113D3}, {0x11BC0, 0x11BE0}, {0x13460, 0x143FA}, {0x16100, 0x1611D}, {0x16D40, 0x16D6C},
    {0x18CFF, 0x18CFF}, {0x1E5D0, 0x1E5ED}, {0x1E5F0, 0x1E5F0},
};
static const range numbers[] = {
    {0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x16130, 0x16139}, {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA},
};

/* Lower case by a constant distance (UnicodeData.txt, Unicode 17). */
static const struct {
    range upper;
    int32_t distance;
} lower[] = {
    {{0x1C89, 0x1C89}, 1}, {{0xA7CB, 0xA7CB}, 0x264 - 0xA7CB}, {{0xA7CC, 0xA7CC}, 1}, {{0xA7CE, 0xA7CE}, 1}, {{0xA7D2, 0xA7D2}, 1},
    {{0xA7D4, 0xA7D4}, 1}, {{0xA7DA, 0xA7DA}, 1}, {{0xA7DC, 0xA7DC}, 0x19B - 0xA7DC}, {{0x10D50, 0x10D65}, 0x20}, {{0x16EA0, 0x16EB8}, 0x1B},
};

static bool within(int32_t c, const range *ranges, size_t count) {
    for (size_t i = 0; i < count && c >= ranges[i].first; i++)
        if (c <= ranges[i].last) return true;
    return false;
}

bool unicode_newer_is_letter(int32_t c) { return within(c, letters, sizeof letters / sizeof *letters); }
bool unicode_newer_is_number(int32_t c) { return within(c, numbers, sizeof numbers / sizeof *numbers); }

int32_t unicode_newer_lower(int32_t c) {
    for (size_t i = 0; i < sizeof lower / sizeof *lower; i++)
        if (c >= lower[i].upper.first && c <= lower[i].upper.last) return c + lower[i].distance;
    return c;
}
