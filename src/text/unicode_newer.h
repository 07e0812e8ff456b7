/* Where the reference's Unicode and that of utf8proc 2.9 (15.1) differ: the reference takes categories and lower case from Unicode 16 and
 * 17, normalization from Unicode 9. */
#ifndef IMAGINED_TEXT_UNICODE_NEWER_H
#define IMAGINED_TEXT_UNICODE_NEWER_H

#include <stdbool.h>
#include <stdint.h>

bool unicode_newer_is_letter(int32_t c);
bool unicode_newer_is_number(int32_t c);
int32_t unicode_newer_lower(int32_t c); /* c itself where it has no lower case */

/* To the reference a starter that is never composed or decomposed, but not to utf8proc: what came after Unicode 9 and takes part in
 * normalization since; and U+11A7, just before the trailing Hangul consonants, which utf8proc takes for one. */
bool unicode_newer_stands_alone(int32_t c);

#endif
