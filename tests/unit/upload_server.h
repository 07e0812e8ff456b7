/* A server that takes pictures: its own loop, HTTP on a free port, and uploads into a store in a new temporary folder. */
#ifndef IMAGINED_TESTS_UPLOAD_SERVER_H
#define IMAGINED_TESTS_UPLOAD_SERVER_H

#include "server/requests/services.h"

typedef struct upload_server {
    char folder[64];
    services services; /* .inputs and .uploads */
    loop *loop;
    http_server *http;
    int port;
} upload_server;

/* `handle` gets `context`; what the server refuses itself is answered with the reason. */
void upload_server_start(upload_server *u, http_handler handle, void *context);
/* Ends HTTP and the uploads that are on their way, as a server's end does. */
void upload_server_end(upload_server *u);
/* What upload_server_end left, and the folder; 0, or it could not be removed. */
int upload_server_free(upload_server *u);

/* From any thread: sends a POST; returns the socket. */
int upload_server_post(const upload_server *u, const char *path, const buffer *body);

/* Appends the file of a picture, which looks as its width has it. */
void upload_picture(int width, int height, image_format format, buffer *out);

#endif
