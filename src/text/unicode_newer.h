/* Characters of Unicode 16 and 17 that the reference knows and utf8proc 2.9 (Unicode 15.1) does not yet. */
#ifndef IMAGINED_TEXT_UNICODE_NEWER_H
#define IMAGINED_TEXT_UNICODE_NEWER_H

#include <stdbool.h>
#include <stdint.h>

bool unicode_newer_is_letter(int32_t c);
bool unicode_newer_is_number(int32_t c);
int32_t unicode_newer_lower(int32_t c); /* c itself where it has no lower case */

#endif
