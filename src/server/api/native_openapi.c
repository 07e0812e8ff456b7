#include "server/api/native_openapi.h"

#include "server/api/native_page.h"
#include "server/http/page.h"

void native_get_openapi(struct services *s, http_exchange *x, const char *id) {
    (void)s, (void)id;
    native_answer_file(x, &openapi_files[0]);
}
