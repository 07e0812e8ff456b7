/* Model folders made for a test: the demo model, its files copied or linked. */
#ifndef IMAGINED_TESTS_MODEL_COPIES_H
#define IMAGINED_TESTS_MODEL_COPIES_H

enum { COPY_PATH_BYTES = 512 };

typedef enum copy_way { BY_COPY, BY_HARD_LINK, BY_SYMLINK } copy_way;

void copies_make_folder(char folder[COPY_PATH_BYTES]); /* a new temporary folder */
void copies_remove_folder(const char *folder);         /* and what is in it */

/* Makes parent/name from the demo model: the weights of the parts named in `linked` ("text_encoder,vae"; "" for none) come `way`,
 * everything else is copied. */
void copies_make_model(const char *parent, const char *name, const char *linked, copy_way way, char folder[COPY_PATH_BYTES]);
void copies_write(const char *folder, const char *name, const char *text); /* replaces a file by a new one */
/* A new file of the same bytes takes the place of folder/name. */
void copies_replace(const char *folder, const char *name);

#endif
