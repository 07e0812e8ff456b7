#include "server/requests/request_pictures.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "server/access/owner.h"
#include "server/requests/services.h"

enum { NAME_BYTES = 256 }; /* of an address */

/* The id in "id", "/api/images/id" or "http://host/api/images/id". */
static const char *id_in(const char *name) {
    static const char path[] = "/api/images/";
    const char *at = strstr(name, path);
    return at != NULL ? at + sizeof path - 1 : name;
}

static const char *adopted_as(const request_pictures *p, const char *picture) {
    for (int i = 0; i < p->count; i++)
        if (strcmp(p->adopted[i].picture, picture) == 0) return p->adopted[i].input;
    return NULL;
}

static bool no_such_picture(json body, const char *field, error *e) {
    return json_complain(body, field, e, "names no image that there is: it must be the id or the address of one of GET /api/images");
}

/* *id: of the input, borrowed; NULL where the field is not there, or a made picture must be adopted first. */
static bool read_name(services *s, const http_exchange *x, json body, const char *field, request_pictures *p, const char **id, error *e) {
    const char *name = NULL;
    char path[PATH_MAX];
    *id = NULL;
    if (!json_text(body, field, NAME_BYTES, &name, e)) return false;
    if (name == NULL) return true;
    name = id_in(name);
    const char *adopted = adopted_as(p, name);
    *id = adopted != NULL ? adopted : input_id_valid(name) ? name : NULL;
    if (*id != NULL) return input_store_find(s->inputs, http_caller(x), *id) != NULL || no_such_picture(body, field, e);
    if (!owner_sees_picture(x, s->queue, name) || !picture_store_path(s->pictures, name, path, NULL) || !file_exists(path))
        return no_such_picture(body, field, e);
    snprintf(p->wanted, sizeof p->wanted, "%s", name); /* it has the form of an id */
    return true;
}

static bool read_mask_source(json body, bool *is_alpha, error *e) {
    const char *text = NULL;
    if (!json_text(body, "mask_source", 16, &text, e)) return false;
    *is_alpha = text != NULL && strcmp(text, "alpha") == 0;
    return text == NULL || *is_alpha || strcmp(text, "light") == 0 || json_complain(body, "mask_source", e, "must be light or alpha");
}

static bool read_strength(json body, double *io, error *e) {
    *io = MODEL_DEFAULT_STRENGTH;
    if (!json_number(body, "strength", 0, 1, io, e)) return false;
    return *io > 0 || json_complain(body, "strength", e, "is 0: it must be above 0, at most 1");
}

bool request_pictures_read(services *s, const http_exchange *x, json body, const model_info *model, request_pictures *p, task_request *io,
                           error *e) {
    p->wanted[0] = '\0';
    bool has_image = json_get(body, "image").value != NULL,
         has_size = json_get(body, "width").value != NULL || json_get(body, "height").value != NULL;
    if (!read_name(s, x, body, "image", p, &io->image, e) || (p->wanted[0] == '\0' && !read_name(s, x, body, "mask", p, &io->mask, e)) ||
        !read_mask_source(body, &io->mask_is_alpha, e) || !read_strength(body, &io->strength, e))
        return false;
    if (io->mask != NULL && !has_image) return json_complain(body, "mask", e, "needs an 'image' whose parts it can say are to stay");
    const input *begins = io->image != NULL && !has_size ? input_store_find(s->inputs, http_caller(x), io->image) : NULL;
    if (begins != NULL) model_size_for_picture(model, begins->info.width, begins->info.height, &io->width, &io->height);
    return true;
}

bool request_pictures_adopt(services *s, http_exchange *x, const request_pictures *p, upload_answer done, void *context, error *e) {
    char path[PATH_MAX];
    return picture_store_path(s->pictures, p->wanted, path, e) && uploads_add_file(s->uploads, x, path, done, context, e);
}

void request_pictures_adopted(request_pictures *p, const input *i) {
    if (p->count == 2) return;
    memcpy(p->adopted[p->count].picture, p->wanted, sizeof p->wanted);
    memcpy(p->adopted[p->count++].input, i->id, sizeof i->id);
}
