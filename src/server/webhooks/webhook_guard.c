#include "server/webhooks/webhook_guard.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { ALLOWED_MAX = 1000 };

/* A block of addresses of one family; IPv4's are the first four bytes. */
typedef struct block {
    int family;
    uint8_t bytes[16];
    int bits;
} block;

typedef struct allowed {
    char name[WEBHOOK_HOST_BYTES]; /* "": a block */
    block block;
} allowed;

struct webhook_guard {
    allowed *items;
    size_t count;
};

/* --- addresses --- */

static bool read_address(const struct sockaddr *a, block *out) {
    *out = (block){.family = a->sa_family};
    if (a->sa_family == AF_INET) {
        memcpy(out->bytes, &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
        out->bits = 32;
    } else if (a->sa_family == AF_INET6) {
        memcpy(out->bytes, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, 16);
        out->bits = 128;
    }
    return out->bits > 0;
}

static bool within(const block *address, const block *of) {
    if (address->family != of->family) return false;
    int whole = of->bits / 8, rest = of->bits % 8;
    if (memcmp(address->bytes, of->bytes, (size_t)whole) != 0) return false;
    return rest == 0 || (address->bytes[whole] ^ of->bytes[whole]) >> (8 - rest) == 0;
}

/* IANA's IPv4 special-purpose registry, what is not globally reachable in it, multicast, and what is reserved. */
static const block special4[] = {
    {AF_INET, {0}, 8},               /* this network */
    {AF_INET, {10}, 8},              /* private */
    {AF_INET, {100, 64}, 10},        /* shared by a carrier's customers */
    {AF_INET, {127}, 8},             /* loopback */
    {AF_INET, {169, 254}, 16},       /* link-local, where clouds keep their metadata */
    {AF_INET, {172, 16}, 12},        /* private */
    {AF_INET, {192, 0, 0}, 24},      /* protocol assignments */
    {AF_INET, {192, 0, 2}, 24},      /* documentation */
    {AF_INET, {192, 88, 99}, 24},    /* relays from IPv6, given up */
    {AF_INET, {192, 168}, 16},       /* private */
    {AF_INET, {198, 18}, 15},        /* benchmarks */
    {AF_INET, {198, 51, 100}, 24},   /* documentation */
    {AF_INET, {203, 0, 113}, 24},    /* documentation */
    {AF_INET, {224}, 4},             /* multicast */
    {AF_INET, {240}, 4},             /* reserved; broadcast */
};

/* Of IPv6 only 2000::/3 is given out for the Internet; these parts of it are special. */
static const block global6 = {AF_INET6, {0x20}, 3};
static const block special6[] = {
    {AF_INET6, {0x20, 0x01, 0x00}, 23},       /* protocol assignments: Teredo, benchmarks, ORCHID, … */
    {AF_INET6, {0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {AF_INET6, {0x20, 0x02}, 16},             /* 6to4: holds any IPv4 address */
    {AF_INET6, {0x3f, 0xff, 0x00}, 20},       /* documentation */
};
/* What translates to IPv4 is as public as what it stands for (RFC 6052). ::ffff:0:0/96 is never on a wire: who sends there means an address
 * that is refused. */
static const block translated = {AF_INET6, {0x00, 0x64, 0xff, 0x9b}, 96};

static bool is_public(const block *a) {
    if (a->family == AF_INET) {
        for (size_t i = 0; i < sizeof special4 / sizeof *special4; i++)
            if (within(a, &special4[i])) return false;
        return true;
    }
    if (within(a, &translated)) {
        block four = {.family = AF_INET, .bits = 32};
        memcpy(four.bytes, a->bytes + 12, 4);
        return is_public(&four);
    }
    if (!within(a, &global6)) return false;
    for (size_t i = 0; i < sizeof special6 / sizeof *special6; i++)
        if (within(a, &special6[i])) return false;
    return true;
}

bool webhook_address_is_public(const struct sockaddr *address) {
    block a;
    return read_address(address, &a) && is_public(&a);
}

/* --- names --- */

/* A host as it is compared. False where it does not fit. */
static bool plain_host(const char *from, size_t size, char out[WEBHOOK_HOST_BYTES]) {
    if (size > 0 && from[size - 1] == '.') size--;
    if (size == 0 || size >= WEBHOOK_HOST_BYTES) return false;
    for (size_t i = 0; i < size; i++) out[i] = (char)(from[i] >= 'A' && from[i] <= 'Z' ? from[i] - 'A' + 'a' : from[i]);
    out[size] = '\0';
    return true;
}

static bool parse_address(const char *text, struct sockaddr_storage *out) {
    struct sockaddr_in *four = (struct sockaddr_in *)(void *)out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) four->sin_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) six->sin6_family = AF_INET6;
    return out->ss_family != 0;
}

/* --- the operator's list --- */

/* "10.0.0.0/8", "::1". */
static bool parse_block(const char *text, block *out) {
    char address[WEBHOOK_HOST_BYTES], *end;
    struct sockaddr_storage a;
    size_t n = strcspn(text, "/");
    memcpy(address, text, n);
    address[n] = '\0';
    if (!parse_address(address, &a) || !read_address((const struct sockaddr *)&a, out)) return false;
    if (text[n] == '\0') return true;
    long bits = strtol(text + n + 1, &end, 10);
    if (text[n + 1] < '0' || text[n + 1] > '9' || *end != '\0' || bits > out->bits) return false;
    out->bits = (int)bits;
    return true;
}

static bool add_allowed(webhook_guard *g, const char *from, size_t size, error *e) {
    static const char of_names[] = "abcdefghijklmnopqrstuvwxyz0123456789-._";
    allowed item = {0};
    char text[WEBHOOK_HOST_BYTES];
    bool ok = g->count < ALLOWED_MAX && plain_host(from, size, text);
    if (ok && !parse_block(text, &item.block)) {
        /* Digits and dots alone are an address that was mistyped. */
        ok = strspn(text, of_names) == strlen(text) && strspn(text, "0123456789.") != strlen(text);
        memcpy(item.name, text, sizeof text);
    }
    if (!ok)
        return error_set(
            e, ERROR_INVALID,
            "IMAGINED_WEBHOOK_ALLOW: '%.*s' is no host's name, address or block: it must look like hooks.lan, 10.0.0.7 or fd00::/8",
            (int)(size < 80 ? size : 80), from);
    allowed *items = realloc(g->items, (g->count + 1) * sizeof *items);
    if (items == NULL) return error_no_memory(e, "the hosts that webhooks may go to", (g->count + 1) * sizeof *items);
    g->items = items;
    items[g->count++] = item;
    return true;
}

bool webhook_guard_new(const char *list, webhook_guard **out, error *e) {
    webhook_guard *g = calloc(1, sizeof *g);
    if (g == NULL) return error_no_memory(e, "the hosts that webhooks may go to", sizeof *g);
    while (*list != '\0') {
        list += strspn(list, " \t,");
        size_t whole = strcspn(list, ","), size = whole;
        while (size > 0 && (list[size - 1] == ' ' || list[size - 1] == '\t')) size--;
        if (size > 0 && !add_allowed(g, list, size, e)) {
            webhook_guard_free(g);
            return false;
        }
        list += whole;
    }
    *out = g;
    return true;
}

void webhook_guard_free(webhook_guard *g) {
    if (g == NULL) return;
    free(g->items);
    free(g);
}

/* --- URLs --- */

static bool refuse(error *e, const char *why) { return error_field(e, ERROR_INVALID, "webhook", "the request body: 'webhook' %s", why); }

/* Takes the part; false where there is none, or it does not fit. */
static bool take_part(CURLU *u, CURLUPart part, char *out, size_t capacity) {
    char *text = NULL;
    if (curl_url_get(u, part, &text, part == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0) != CURLUE_OK) return false;
    size_t n = strlen(text);
    if (n < capacity) memcpy(out, text, n + 1);
    curl_free(text);
    return n < capacity;
}

static bool has_part(CURLU *u, CURLUPart part) {
    char *text = NULL;
    bool has = curl_url_get(u, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return has;
}

static bool read_host(CURLU *u, webhook_target *out, error *e) {
    char host[WEBHOOK_HOST_BYTES + 8], port[8];
    if (!take_part(u, CURLUPART_HOST, host, sizeof host) || !take_part(u, CURLUPART_PORT, port, sizeof port))
        return refuse(e, "names no host that can be sent to");
    size_t n = strlen(host);
    bool six = n > 2 && host[0] == '[' && host[n - 1] == ']';
    if (!plain_host(six ? host + 1 : host, six ? n - 2 : n, out->host)) return refuse(e, "names no host that can be sent to");
    out->port = atoi(port);
    out->is_address = parse_address(out->host, &out->address);
    /* libcurl writes numbers of any form as an address. What ends with one and is none means nothing. */
    const char *last = strrchr(out->host, '.');
    last = last != NULL ? last + 1 : out->host;
    if (six && !out->is_address) return refuse(e, "names no host that can be sent to");
    if (!out->is_address && *last != '\0' && strspn(last, "0123456789") == strlen(last)) return refuse(e, "names an address that is none");
    return true;
}

bool webhook_target_parse(const char *url, webhook_target *out, error *e) {
    char scheme[16];
    *out = (webhook_target){0};
    if (strlen(url) >= WEBHOOK_URL_BYTES) return refuse(e, "is too long: at most 2047 bytes are allowed");
    for (const char *c = url; *c != '\0'; c++)
        if (*c <= ' ' || *c >= 0x7F || *c == '\\')
            return refuse(e, "has a character that no URL has: write it as %XX, and names in their xn-- form");
    if (strchr(url, '#') != NULL) return refuse(e, "has a fragment ('#…'), which is never sent");
    CURLU *u = curl_url();
    if (u == NULL) return error_no_memory(e, "a URL", WEBHOOK_URL_BYTES);
    CURLUcode code = curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
    bool ok = code == CURLUE_OK;
    if (code == CURLUE_OUT_OF_MEMORY) error_no_memory(e, "a URL", WEBHOOK_URL_BYTES);
    else if (!ok) refuse(e, "is no URL: it must look like https://hooks.example/path");
    if (ok && (!take_part(u, CURLUPART_SCHEME, scheme, sizeof scheme) || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)))
        ok = refuse(e, "must be an http or https URL");
    if (ok && (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD)))
        ok = refuse(e, "has a user's name or a password: the signature says who sends");
    if (ok && has_part(u, CURLUPART_ZONEID)) ok = refuse(e, "names a network interface");
    ok = ok && read_host(u, out, e);
    if (ok) out->secure = strcmp(scheme, "https") == 0;
    curl_url_cleanup(u);
    return ok;
}

/* --- asking --- */

bool webhook_guard_allows(const webhook_guard *g, const char *host, const struct sockaddr *address) {
    char plain[WEBHOOK_HOST_BYTES];
    block a;
    if (!read_address(address, &a)) return false;
    if (is_public(&a)) return true;
    bool named = plain_host(host, strlen(host), plain);
    for (size_t i = 0; i < g->count; i++) {
        const allowed *item = &g->items[i];
        if (item->name[0] != '\0' ? named && strcmp(item->name, plain) == 0 : within(&a, &item->block)) return true;
    }
    return false;
}

bool webhook_guard_admits(const webhook_guard *g, const webhook_target *t, error *e) {
    if (!t->is_address || webhook_guard_allows(g, t->host, (const struct sockaddr *)&t->address)) return true;
    return error_field(
        e, ERROR_INVALID, "webhook",
        "the request body: 'webhook' names %s, which is no public address: the operator can allow it with IMAGINED_WEBHOOK_ALLOW", t->host);
}
