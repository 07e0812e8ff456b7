#include "server/access/allow_list.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ALLOWED_MAX = 1000 };

typedef struct hosts {
    allow_host *items;
    size_t count;
} hosts;

struct allow_list {
    hosts names, origins;
};

/* --- parsing --- */

/* ":8080" or nothing. */
static bool read_port(const char *text, int *port) {
    *port = 0;
    if (*text == '\0') return true;
    size_t n = strlen(text) - 1;
    if (*text != ':' || n == 0 || n > 5 || strspn(text + 1, "0123456789") != n) return false;
    *port = atoi(text + 1);
    return *port > 0 && *port <= 65535;
}

static bool read_address6(const char *text, allow_host *out) {
    struct in6_addr address;
    const char *close = strchr(text, ']');
    if (close == NULL || (size_t)(close - text) >= sizeof out->name) return false;
    memcpy(out->name, text + 1, (size_t)(close - text - 1));
    out->name[close - text - 1] = '\0';
    if (inet_pton(AF_INET6, out->name, &address) != 1 || inet_ntop(AF_INET6, &address, out->name, sizeof out->name) == NULL) return false;
    out->is_address = true;
    return read_port(close + 1, &out->port);
}

bool allow_host_parse(const char *text, allow_host *out) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-._";
    struct in_addr address;
    *out = (allow_host){0};
    if (*text == '[') return read_address6(text, out);
    size_t n = strcspn(text, ":");
    if (n == 0 || n >= sizeof out->name) return false;
    for (size_t i = 0; i < n; i++) out->name[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] - 'A' + 'a' : text[i]);
    if (strspn(out->name, allowed) != n) return false;
    if (n > 1 && out->name[n - 1] == '.') out->name[n - 1] = '\0';
    out->is_address = inet_pton(AF_INET, out->name, &address) == 1;
    return out->name[0] != '.' && read_port(text + n, &out->port);
}

bool allow_origin_parse(const char *text, allow_host *out) {
    bool secure = strncasecmp(text, "https://", 8) == 0;
    if (!secure && strncasecmp(text, "http://", 7) != 0) return false;
    if (!allow_host_parse(text + (secure ? 8 : 7), out)) return false;
    out->secure = secure;
    return true;
}

/* --- lists --- */

static bool add_item(hosts *list, const char *from, size_t size, bool origins, error *e) {
    char text[ALLOW_NAME_BYTES + 32];
    allow_host host;
    bool fits = size < sizeof text && list->count < ALLOWED_MAX;
    if (fits) {
        memcpy(text, from, size);
        text[size] = '\0';
    }
    if (!fits || !(origins ? allow_origin_parse(text, &host) : allow_host_parse(text, &host)))
        return error_set(e, ERROR_INVALID, "IMAGINED_ALLOWED_%s: '%.*s' is none: it must look like %s", origins ? "ORIGINS" : "HOSTS",
                         (int)(size < 80 ? size : 80), from,
                         origins ? "https://pictures.example or http://10.0.0.7:8080" : "pictures.example or pictures.example:7860");
    allow_host *items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (items == NULL) return error_no_memory(e, "the allowed hosts", (list->count + 1) * sizeof *items);
    list->items = items;
    list->items[list->count++] = host;
    return true;
}

static bool read_list(hosts *list, const char *text, bool origins, error *e) {
    while (*text != '\0') {
        text += strspn(text, " \t,");
        size_t whole = strcspn(text, ","), size = whole;
        while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t')) size--;
        if (size > 0 && !add_item(list, text, size, origins, e)) return false;
        text += whole;
    }
    return true;
}

bool allow_list_new(const char *names, const char *origins, allow_list **out, error *e) {
    allow_list *l = calloc(1, sizeof *l);
    if (l == NULL) return error_no_memory(e, "the allowed hosts", sizeof *l);
    if (!read_list(&l->names, names, false, e) || !read_list(&l->origins, origins, true, e)) {
        allow_list_free(l);
        return false;
    }
    *out = l;
    return true;
}

void allow_list_free(allow_list *l) {
    if (l == NULL) return;
    free(l->names.items);
    free(l->origins.items);
    free(l);
}

/* --- asking --- */

bool allow_list_has_host(const allow_list *l, const char *host) {
    allow_host asked;
    if (host == NULL) return true;
    if (!allow_host_parse(host, &asked)) return false;
    if (asked.is_address || strcmp(asked.name, "localhost") == 0) return true;
    for (size_t i = 0; i < l->names.count; i++) {
        const allow_host *h = &l->names.items[i];
        if (strcmp(h->name, asked.name) == 0 && (h->port == 0 || h->port == (asked.port != 0 ? asked.port : 80))) return true;
    }
    return false;
}

static int port_of(const allow_host *h, bool secure) { return h->port != 0 ? h->port : secure ? 443 : 80; }

bool allow_list_has_origin(const allow_list *l, const char *origin) {
    allow_host asked;
    if (!allow_origin_parse(origin, &asked)) return false;
    for (size_t i = 0; i < l->origins.count; i++) {
        const allow_host *o = &l->origins.items[i];
        if (o->secure == asked.secure && strcmp(o->name, asked.name) == 0 && port_of(o, o->secure) == port_of(&asked, asked.secure))
            return true;
    }
    return false;
}

bool allow_same_origin(const char *origin, const char *host) {
    allow_host page, self;
    if (host == NULL || !allow_origin_parse(origin, &page) || !allow_host_parse(host, &self)) return false;
    return strcmp(page.name, self.name) == 0 && port_of(&page, page.secure) == port_of(&self, page.secure);
}
