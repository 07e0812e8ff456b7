#include "server/resources/seconds.h"

#include <math.h>

bool seconds_add(yyjson_mut_doc *doc, yyjson_mut_val *o, const char *key, double seconds) {
    return yyjson_mut_obj_add_real(doc, o, key, round(seconds * 1e6) / 1e6);
}
