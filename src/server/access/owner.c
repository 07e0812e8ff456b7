#include "server/access/owner.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

const char *owner_of(const http_exchange *x, char text[OWNER_BYTES]) {
    const char *caller = http_caller(x);
    if (caller != NULL) {
        snprintf(text, OWNER_BYTES, "%s", caller);
        return text;
    }
    const char *authorization = http_header(x, "authorization");
    if (authorization == NULL || authorization[0] == '\0') return NULL;
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (; *authorization != '\0'; authorization++) hash = (hash ^ (unsigned char)*authorization) * 1099511628211u;
    snprintf(text, OWNER_BYTES, "key-%016llx", (unsigned long long)hash);
    return text;
}

bool owner_sees(const http_exchange *x, const task *t) {
    const char *caller = http_caller(x);
    if (caller == NULL) return true;
    return t != NULL && t->request.owner != NULL && strcmp(t->request.owner, caller) == 0;
}

bool owner_sees_picture(const http_exchange *x, queue_manager *q, const char *id) {
    char task_id[TASK_ID_BYTES];
    if (http_caller(x) == NULL) return true;
    snprintf(task_id, sizeof task_id, "%s", id);
    return task_id_valid(task_id) && owner_sees(x, queue_manager_find(q, task_id));
}
