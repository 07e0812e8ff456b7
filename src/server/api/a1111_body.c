#include "server/api/a1111_body.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/a1111_errors.h"

bool a1111_read_body(http_exchange *x, json_document *out) {
    const buffer *body = http_request_body(x);
    error why = {0};
    if (json_parse(buffer_text(body), body->size, "the request body", out, &why)) {
        if (yyjson_is_obj(json_root(out).value)) return true;
        json_document_free(out);
        error_set(&why, ERROR_INVALID, "the request body must be a JSON object");
    }
    a1111_answer_error(x, why.code == ERROR_INVALID ? 422 : 0, &why);
    return false;
}

bool a1111_number(json object, const char *key, double low, double high, double *io, error *e) {
    yyjson_val *v = json_get(object, key).value;
    if (v == NULL || !yyjson_is_str(v)) return json_number(object, key, low, high, io, e);
    const char *text = yyjson_get_str(v);
    char *end;
    errno = 0;
    double n = strtod(text, &end);
    if (end == text || *end != '\0' || strspn(text, "0123456789+-.eE") != yyjson_get_len(v) || errno == ERANGE || !isfinite(n))
        return json_complain(object, key, e, "must be a number");
    if (n < low || n > high) return json_complain(object, key, e, "is %g: it must be from %g to %g", n, low, high);
    *io = n;
    return true;
}

bool a1111_int(json object, const char *key, int64_t low, int64_t high, int64_t *io, error *e) {
    yyjson_val *v = json_get(object, key).value;
    if (v == NULL || !yyjson_is_str(v)) return json_int(object, key, low, high, io, e);
    double n = 0;
    if (!a1111_number(object, key, -9007199254740992.0, 9007199254740992.0, &n, e)) return false;
    if (n != floor(n)) return json_complain(object, key, e, "must be a whole number");
    if (n < (double)low || n > (double)high)
        return json_complain(object, key, e, "is %.0f: it must be from %lld to %lld", n, (long long)low, (long long)high);
    *io = (int64_t)n;
    return true;
}

bool a1111_bool(json object, const char *key, bool *io, error *e) {
    yyjson_val *v = json_get(object, key).value;
    if (v == NULL || !yyjson_is_uint(v) || yyjson_get_uint(v) > 1) return json_bool(object, key, io, e);
    *io = yyjson_get_uint(v) == 1;
    return true;
}
