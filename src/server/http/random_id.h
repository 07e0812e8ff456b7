/* Names for requests that have none: "req_" and the digits of a task's id: time, then 80 random bits. */
#ifndef IMAGINED_SERVER_HTTP_RANDOM_ID_H
#define IMAGINED_SERVER_HTTP_RANDOM_ID_H

enum { RANDOM_ID_BYTES = 32 };
/* Writes the prefix (at most 4 characters) and the digits, at most RANDOM_ID_BYTES. */
void random_id(const char *prefix, char *out);

#endif
