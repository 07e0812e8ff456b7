/* The key in a request's Authorization. */
#ifndef IMAGINED_SERVER_ACCESS_AUTH_HEADER_H
#define IMAGINED_SERVER_ACCESS_AUTH_HEADER_H

#include <stdbool.h>

enum { AUTH_KEY_BYTES = 512 };

/* From "Bearer KEY" (RFC 6750), or "Basic …" (RFC 7617) whose password is the key and whose user may be anything; where the password is
 * empty, the user is the key. Schemes in any case. False, and *key is empty, where there is none (NULL, too), it is malformed, or longer
 * than AUTH_KEY_BYTES − 1. */
bool auth_header_key(const char *authorization, char key[AUTH_KEY_BYTES]);

#endif
