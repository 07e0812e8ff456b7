#include "server/api/openai_edits.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/api/openai_answer.h"
#include "server/api/openai_error.h"
#include "server/api/openai_form.h"
#include "server/api/openai_request.h"
#include "server/http/multipart.h"
#include "server/requests/intake.h"
#include "server/requests/services.h"

/* A request whose pictures are being stored. */
typedef struct edit {
    json_document fields;
} edit;

static void edit_free(edit *ed) {
    json_document_free(&ed->fields);
    free(ed);
}

/* A mask that frees nothing would give the picture back as it is. */
static bool check_mask(const input *mask, error *e) {
    return mask == NULL || mask->info.channels == 4 ||
           error_field(e, ERROR_INVALID, "mask", "the mask has no transparency: what is to be painted anew must be transparent in it");
}

static bool submit(services *s, http_exchange *x, const edit *ed, const input *from, const input *mask, error *e) {
    task_request request;
    openai_choices choices;
    char data[OPENAI_CHOICES_BYTES];
    if (!check_mask(mask, e) || !openai_read_request(s, json_root(&ed->fields), &from->info, mask != NULL, &request, &choices, data, e))
        return false;
    request.image = from->id;
    request.mask = mask != NULL ? mask->id : NULL;
    request.mask_is_alpha = mask != NULL;
    openai_submit(s, x, &request);
    return true;
}

static void stored(services *s, http_exchange *x, const input *pictures, int count, const error *why, void *context) {
    edit *ed = context;
    error fault = {0};
    if (x != NULL && pictures == NULL)
        openai_answer_error(x, why->code == ERROR_NOT_FOUND ? 409 : 0, why); /* it was stored, and was gone again */
    else if (x != NULL && !submit(s, x, ed, pictures, count > 1 ? &pictures[1] : NULL, &fault)) openai_answer_error(x, 0, &fault);
    edit_free(ed);
}

static bool blame(error *e, const char *field) {
    snprintf(e->field, sizeof e->field, "%s", field);
    return error_prefix(e, "'%s': ", field);
}

/* What is no picture, or asks for what is not there, is refused before anything is stored. */
static bool check_form(services *s, const openai_form *f, error *e) {
    const buffer *from = &f->pictures[OPENAI_IMAGE], *mask = &f->pictures[OPENAI_MASK];
    task_request request;
    openai_choices choices;
    char data[OPENAI_CHOICES_BYTES];
    image_info info;
    if (f->images == 0) return error_field(e, ERROR_INVALID, "image", "the form has no picture: it must be in the field 'image'");
    if (f->images > 1)
        return error_field(e, ERROR_UNSUPPORTED, "image",
                           "the form has %d pictures in 'image': one picture can be edited, and no other looked at", f->images);
    if (mask->size > 0 && !image_probe(mask->data, mask->size, &info, e)) return blame(e, "mask");
    if (!image_probe(from->data, from->size, &info, e)) return blame(e, "image");
    return openai_read_request(s, json_root(&f->fields), &info, mask->size > 0, &request, &choices, data, e);
}

/* Takes the form's contents, whatever happens. */
static bool begin(services *s, http_exchange *x, openai_form *f, error *e) {
    buffer none = {0};
    edit *ed = check_form(s, f, e) ? calloc(1, sizeof *ed) : NULL;
    if (ed == NULL && e->code == ERROR_NONE) error_no_memory(e, "an edit", sizeof *ed);
    if (ed == NULL) {
        openai_form_free(f);
        return false;
    }
    ed->fields = f->fields;
    /* The body has been read: its memory is not needed while the pictures wait. */
    http_take_request_body(x, &none);
    buffer_free(&none);
    if (intake_add(s, x, f->pictures, f->pictures[OPENAI_MASK].size > 0 ? 2 : 1, stored, ed, e)) return true;
    edit_free(ed);
    return false;
}

static void answer_form(services *s, http_exchange *x, bool prompt_optional) {
    openai_form form;
    error why = {0};
    const char *type = http_header(x, "content-type");
    bool ok = multipart_is(type) || error_set(&why, ERROR_INVALID, "the request must be multipart/form-data, with the picture as 'image'");
    ok = ok && openai_form_read(type, http_request_body(x), prompt_optional, &form, &why) && begin(s, x, &form, &why);
    if (ok) return;
    if (why.code == ERROR_BUSY) openai_answer_refusal(s, x, &why);
    else openai_answer_error(x, 0, &why);
}

void openai_edit(services *s, http_exchange *x, const char *id) {
    (void)id;
    answer_form(s, x, false);
}

/* A variation is an edit that says nothing. */
void openai_vary(services *s, http_exchange *x, const char *id) {
    (void)id;
    answer_form(s, x, true);
}
