#include "server/http/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char media_type[] = "multipart/form-data";

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* --- parameters: name=value or name="value", separated by semicolons --- */

/* Reads a value at *at, up to `end`: quoted with backslashes, or a token. What does not fit is cut. */
static void read_value(const char **at, const char *end, char *out, size_t capacity) {
    size_t n = 0;
    bool quoted = *at < end && **at == '"';
    for (*at += quoted; *at < end; (*at)++) {
        if (quoted ? **at == '"' : **at == ';' || is_blank(**at)) break;
        /* Some clients send a Windows path unescaped: only quotes and backslashes are escaped. */
        if (quoted && **at == '\\' && *at + 1 < end && ((*at)[1] == '"' || (*at)[1] == '\\')) (*at)++;
        if (n + 1 < capacity) out[n++] = **at;
    }
    if (quoted && *at < end) (*at)++;
    out[n] = '\0';
}

/* The parameter of this name behind the first semicolon of text … end. */
static bool find_parameter(const char *text, const char *end, const char *name, char *out, size_t capacity) {
    size_t length = strlen(name);
    const char *at = memchr(text, ';', (size_t)(end - text));
    while (at != NULL && at < end) {
        while (at < end && (*at == ';' || is_blank(*at))) at++;
        const char *begin = at;
        while (at < end && *at != '=' && *at != ';' && !is_blank(*at)) at++;
        bool wanted = (size_t)(at - begin) == length && strncasecmp(begin, name, length) == 0;
        while (at < end && is_blank(*at)) at++;
        if (at >= end || *at != '=') continue;
        at++;
        while (at < end && is_blank(*at)) at++;
        char other[1];
        read_value(&at, end, wanted ? out : other, wanted ? capacity : sizeof other);
        if (wanted) return true;
        while (at < end && *at != ';') at++;
    }
    return false;
}

bool multipart_is(const char *content_type) {
    size_t n = sizeof media_type - 1;
    return content_type != NULL && strncasecmp(content_type, media_type, n) == 0 &&
           (content_type[n] == '\0' || content_type[n] == ';' || is_blank(content_type[n]));
}

bool multipart_open(const char *content_type, const char *body, size_t size, multipart *out, error *e) {
    char boundary[MULTIPART_BOUNDARY_BYTES + 1]; /* one more, to see whether it was cut */
    *out = (multipart){.body = body, .size = size};
    if (!multipart_is(content_type)) return error_set(e, ERROR_INVALID, "the request is no multipart/form-data");
    if (!find_parameter(content_type, content_type + strlen(content_type), "boundary", boundary, sizeof boundary) || boundary[0] == '\0' ||
        strlen(boundary) >= MULTIPART_BOUNDARY_BYTES)
        return error_set(e, ERROR_INVALID, "the request's Content-Type has no boundary of 1 to %d characters",
                         MULTIPART_BOUNDARY_BYTES - 1);
    snprintf(out->delimiter, sizeof out->delimiter, "\r\n--%.70s", boundary);
    return true;
}

/* --- the body --- */

/* The next line that begins with "--boundary", from `from` on (where a line break stands, or the body begins). *begin is where the line
 * break before it stands, *after what follows the boundary. */
static bool find_boundary(const multipart *m, size_t from, size_t *begin, size_t *after) {
    size_t length = strlen(m->delimiter);
    bool first = from == 0 && m->size >= length - 2 && memcmp(m->body, m->delimiter + 2, length - 2) == 0;
    const char *found = first ? NULL : memmem(m->body + from, m->size - from, m->delimiter, length);
    if (!first && found == NULL) return false;
    *begin = first ? 0 : (size_t)(found - m->body);
    *after = first ? length - 2 : *begin + length;
    return true;
}

static bool broken(multipart *m, const char *fault) {
    m->fault = fault;
    return false;
}

/* One line of a part's head, without its line break. */
static void read_header(const char *line, size_t size, multipart_part *out) {
    static const char wanted[] = "content-disposition:";
    if (size < sizeof wanted - 1 || strncasecmp(line, wanted, sizeof wanted - 1) != 0) return;
    find_parameter(line, line + size, "name", out->name, sizeof out->name);
    out->is_file = find_parameter(line, line + size, "filename", out->file_name, sizeof out->file_name);
}

/* Reads the head at m->at and moves behind its empty line. */
static bool read_head(multipart *m, multipart_part *out) {
    size_t left = m->size - m->at, limit = left < MULTIPART_HEAD_MAX_BYTES ? left : MULTIPART_HEAD_MAX_BYTES;
    const char *at = m->body + m->at, *end = at + limit;
    for (;;) {
        const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
        if (line_end == NULL) return broken(m, limit < left ? "a part's headers are too long" : "it ends within a part's headers");
        size_t size = (size_t)(line_end - at);
        if (size > 0) read_header(at, size, out);
        at = line_end + 2;
        if (size == 0) break;
    }
    m->at = (size_t)(at - m->body);
    return true;
}

/* Behind a boundary: "--" ends the body, blanks and a line break begin a part. */
static bool enter_part(multipart *m) {
    if (m->size - m->at >= 2 && memcmp(m->body + m->at, "--", 2) == 0) {
        m->ended = true;
        return false;
    }
    while (m->at < m->size && is_blank(m->body[m->at])) m->at++;
    if (m->size - m->at < 2 || memcmp(m->body + m->at, "\r\n", 2) != 0) return broken(m, "a boundary is not followed by a line break");
    m->at += 2;
    return true;
}

bool multipart_next(multipart *m, multipart_part *out) {
    size_t begin, after;
    *out = (multipart_part){0};
    if (m->ended || m->fault != NULL) return false;
    /* Before the first boundary, a preamble may stand. */
    if (m->parts == 0) {
        if (!find_boundary(m, 0, &begin, &after)) return broken(m, "its boundary is nowhere in it");
        m->at = after;
    }
    if (!enter_part(m)) return false;
    if (m->parts++ == MULTIPART_PARTS_MAX) return broken(m, "it has too many parts");
    if (!read_head(m, out)) return false;
    /* An empty part's boundary shares the line break that ends the head. */
    if (!find_boundary(m, m->at - 2, &begin, &after)) return broken(m, "it ends before its last part does");
    out->bytes = m->body + m->at;
    out->size = begin > m->at ? begin - m->at : 0;
    m->at = after;
    return true;
}

bool multipart_complete(const multipart *m, error *e) {
    if (m->fault != NULL) return error_set(e, ERROR_INVALID, "the request's multipart/form-data body is damaged: %s", m->fault);
    return m->ended || error_set(e, ERROR_INVALID, "the request's multipart/form-data body was not read to its end");
}
