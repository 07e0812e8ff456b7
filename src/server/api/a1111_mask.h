/* Masks as A1111 takes them, made into what the engine takes: white is painted anew. Work for the uploads' thread
 * (server/requests/uploads.h). */
#ifndef IMAGINED_SERVER_API_A1111_MASK_H
#define IMAGINED_SERVER_API_A1111_MASK_H

#include "base/buffer.h"
#include "base/error.h"

/* From base 64 to a PNG. A mask with transparency paints where it is opaque, any other where it is light. */
bool a1111_mask_as_it_is(buffer *bytes, error *e);
bool a1111_mask_inverted(buffer *bytes, error *e); /* for inpainting_mask_invert: what would stay is painted, and the other way round */

#endif
