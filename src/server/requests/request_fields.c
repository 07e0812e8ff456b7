#include "server/requests/request_fields.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/config.h"

static bool random_seed(uint64_t *out, error *e) {
    ssize_t n;
    do n = getrandom(out, sizeof *out, 0);
    while (n < 0 && errno == EINTR);
    return n == sizeof *out || error_set(e, ERROR_INTERNAL, "the system gives no random numbers");
}

bool request_fields_defaults(const model_info *model, task_request *out, error *e) {
    *out = (task_request){
        .model = model->name,
        .precision = "auto",
        .width = model->width,
        .height = model->height,
        .steps = model->steps,
        .count = 1,
        .max_sequence_length = model->max_sequence_length,
        .guidance_scale = model->guidance,
        .true_cfg_scale = 1.0,
    };
    return random_seed(&out->seed, e);
}

static bool read_int(json body, const char *key, int low, int high, int *io, error *e) {
    int64_t n = *io;
    if (!json_int(body, key, low, high, &n, e)) return false;
    *io = (int)n;
    return true;
}

/* JSON knows one kind of number: 5.0 is 5. */
static bool is_whole(yyjson_val *v, double low, double high) {
    double n = yyjson_is_real(v) ? yyjson_get_real(v) : low - 1;
    return n >= low && n <= high && n == floor(n);
}

/* All of an unsigned 64-bit number, also as text (many clients cannot say it as a number); −1 or nothing: leave the random one. */
static bool read_seed(json body, uint64_t *io, error *e) {
    yyjson_val *v = json_get(body, "seed").value;
    if (v == NULL) return true;
    const char *wanted = "must be a whole number from 0 to 18446744073709551615, or −1 for a random one";
    if (yyjson_is_uint(v)) {
        *io = yyjson_get_uint(v);
        return true;
    }
    if (is_whole(v, 0, 9007199254740991)) {
        *io = (uint64_t)yyjson_get_real(v);
        return true;
    }
    if (is_whole(v, -1, -1)) return true;
    if (yyjson_is_sint(v)) return yyjson_get_sint(v) == -1 || json_complain(body, "seed", e, "%s", wanted);
    if (!yyjson_is_str(v)) return json_complain(body, "seed", e, "%s", wanted);
    const char *text = yyjson_get_str(v);
    if (strcmp(text, "-1") == 0) return true;
    if (text[0] == '\0' || strspn(text, "0123456789") != yyjson_get_len(v)) return json_complain(body, "seed", e, "%s", wanted);
    errno = 0;
    uint64_t seed = strtoull(text, NULL, 10);
    if (errno == ERANGE) return json_complain(body, "seed", e, "%s", wanted);
    *io = seed;
    return true;
}

bool request_fields_precision(json body, const char **io, error *e) {
    static const char *const known[] = {"auto", "f32", "bf16", "f16"};
    const char *text = NULL;
    if (!json_text(body, "precision", 16, &text, e)) return false;
    if (text == NULL) return true;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(text, known[i]) != 0) continue;
        *io = known[i];
        return true;
    }
    if (strcmp(text, "int8") == 0)
        return error_field(e, ERROR_UNSUPPORTED, "precision", "%s: the 'precision' int8 is not available yet: use auto, f32, bf16 or f16",
                           body.source);
    return json_complain(body, "precision", e, "must be auto, f32, bf16 or f16");
}

static bool check_side(json body, const char *key, int side, int multiple, error *e) {
    if (side % multiple == 0) return true;
    int below = side / multiple * multiple, above = below + multiple;
    if (below == 0) return json_complain(body, key, e, "is %d: it must be a multiple of %d; the smallest is %d", side, multiple, above);
    return json_complain(body, key, e, "is %d: it must be a multiple of %d; the nearest are %d and %d", side, multiple, below, above);
}

/* From now on; a deadline of 0 seconds would be over before it began. */
static bool read_deadline(json body, int64_t *io, error *e) {
    double seconds = 0;
    if (json_get(body, "deadline_seconds").value == NULL) return true;
    if (!json_number(body, "deadline_seconds", 0.001, REQUEST_MAX_DEADLINE_SECONDS, &seconds, e)) return false;
    *io = clock_unix_ms() + (int64_t)(seconds * 1000 + 0.5);
    return true;
}

bool request_fields_read(json body, const model_info *model, int max_count, task_request *io, error *e) {
    bool ok = json_require(body, "prompt", e) && json_text(body, "prompt", REQUEST_PROMPT_BYTES, &io->prompt, e) &&
              json_text(body, "negative_prompt", REQUEST_PROMPT_BYTES, &io->negative_prompt, e) &&
              read_int(body, "width", 1, MODEL_MAX_SIDE, &io->width, e) && read_int(body, "height", 1, MODEL_MAX_SIDE, &io->height, e) &&
              read_int(body, "num_inference_steps", 1, REQUEST_MAX_STEPS, &io->steps, e) &&
              json_number(body, "guidance_scale", 0, 100, &io->guidance_scale, e) &&
              json_number(body, "true_cfg_scale", 0, 100, &io->true_cfg_scale, e) &&
              read_int(body, "max_sequence_length", 1, REQUEST_MAX_TOKENS, &io->max_sequence_length, e) &&
              request_fields_precision(body, &io->precision, e) && read_seed(body, &io->seed, e) &&
              read_int(body, "n", 1, max_count, &io->count, e) && read_deadline(body, &io->deadline_ms, e) &&
              check_side(body, "width", io->width, model->size_multiple, e) &&
              check_side(body, "height", io->height, model->size_multiple, e);
    if (!ok) return false;
    if ((int64_t)io->width * io->height > REQUEST_MAX_PIXELS)
        return json_complain(body, "width", e, "times 'height' is %lld pixels: at most %d are allowed", (long long)io->width * io->height,
                             REQUEST_MAX_PIXELS);
    return true;
}

bool request_fields_priority(json body, task_priority *io, error *e) {
    yyjson_val *v = json_get(body, "priority").value;
    if (v == NULL) return true;
    if ((yyjson_is_uint(v) && yyjson_get_uint(v) <= PRIORITY_LOW) || is_whole(v, 0, PRIORITY_LOW)) {
        *io = (task_priority)yyjson_get_num(v);
        return true;
    }
    if (yyjson_is_str(v) && task_priority_parse(yyjson_get_str(v), io)) return true;
    return json_complain(body, "priority", e, "must be urgent, high, normal or low, or a number from 0 to 3");
}

bool request_fields_only(json body, const char *const *known, error *e) {
    yyjson_obj_iter members = yyjson_obj_iter_with(body.value);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&members)) != NULL;) {
        const char *name = yyjson_get_str(key);
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], name) != 0) i++;
        if (known[i] == NULL && yyjson_get_len(key) >= ERROR_FIELD_BYTES)
            return error_set(e, ERROR_INVALID, "%s: there is no field with so long a name (%zu bytes)", body.source, yyjson_get_len(key));
        if (known[i] != NULL) continue;
        const char *near = config_nearest(name, known, i);
        return error_field(e, ERROR_INVALID, name, "%s: there is no field '%s'%s%s%s", body.source, name,
                           near != NULL ? ": did you mean '" : "", near != NULL ? near : "", near != NULL ? "'?" : "");
    }
    return true;
}
