/* Webhooks' rules without a network: which addresses are public, what the operator can allow, which URLs are taken, signatures as Standard
 * Webhooks gives an example of, when a message is tried again, and that the messages that wait are bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "server/tasks/webhooks.h"
#include "server/webhooks/webhook_guard.h"
#include "server/webhooks/webhook_schedule.h"
#include "server/webhooks/webhook_signature.h"

static const struct sockaddr *address(const char *text, struct sockaddr_storage *out) {
    struct sockaddr_in *four = (struct sockaddr_in *)out;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) four->sin_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) six->sin6_family = AF_INET6;
    else fail_msg("%s is no address", text);
    return (const struct sockaddr *)out;
}

/* Both ends of each block, and what lies just beside them. */
static void special_addresses_are_not_public(void **state) {
    (void)state;
    static const char *const special[] = {
        "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.0", "127.0.0.1", "127.255.255.255", "169.254.0.0",
        "169.254.169.254", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.255", "192.0.2.0", "192.0.2.255", "192.88.99.0", "192.88.99.255",
        "192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.0",
        "239.255.255.255", "240.0.0.0", "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8", "100::1", "1fff:ffff::",
        "2001::1", "2001:1ff:ffff::", "2001:db8::", "2001:db8:ffff::1", "2002::1", "2002:808:808::1", "3fff::", "3fff:fff::1", "4000::", "5f00::1", "fc00::1", "fdff::1",
        "fe80::1", "febf::1", "fec0::1", "ff02::1", "ffff::1",
    };
    static const char *const public[] = {
        "1.0.0.0",       "8.8.8.8",         "9.255.255.255",   "11.0.0.0",        "100.63.255.255", "100.128.0.0",  "126.255.255.255",
        "128.0.0.0",     "169.253.255.255", "169.255.0.0",     "172.15.255.255",  "172.32.0.0",     "192.0.1.0",    "192.0.3.0",
        "192.88.98.255", "192.88.100.0",    "192.167.255.255", "192.169.0.0",     "198.17.255.255", "198.20.0.0",   "198.51.99.255",
        "198.51.101.0",  "203.0.112.255",   "203.0.114.0",     "223.255.255.255", "2000::1",        "2001:200::1",  "2001:4860:4860::8888",
        "2001:db7::1",   "2001:db9::1",     "2003::1",         "2606:4700::1",    "3ffe::1",        "3fff:1000::1", "64:ff9b::8.8.8.8",
    };
    struct sockaddr_storage a;
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        if (webhook_address_is_public(address(special[i], &a))) fail_msg("%s is public", special[i]);
    }
    for (size_t i = 0; i < sizeof public / sizeof *public; i++) {
        if (!webhook_address_is_public(address(public[i], &a))) fail_msg("%s is not public", public[i]);
    }
    const struct sockaddr_un other = {.sun_family = AF_UNIX};
    assert_false(webhook_address_is_public((const struct sockaddr *)&other));
}

static bool allows(const char *list, const char *host, const char *to) {
    webhook_guard *g;
    struct sockaddr_storage a;
    error e = {0};
    if (!webhook_guard_new(list, &g, &e)) fail_msg("%s", e.text);
    bool ok = webhook_guard_allows(g, host, address(to, &a));
    webhook_guard_free(g);
    return ok;
}

static void the_operator_can_allow_more(void **state) {
    (void)state;
    assert_true(allows("", "a.example", "8.8.8.8"));
    assert_false(allows("", "a.example", "10.0.0.7"));
    assert_true(allows("10.0.0.7", "a.example", "10.0.0.7"));
    assert_false(allows("10.0.0.7", "a.example", "10.0.0.8"));
    assert_true(allows("192.168.0.0/16, 10.0.0.0/13", "a.example", "10.7.255.255"));
    assert_false(allows("192.168.0.0/16, 10.0.0.0/13", "a.example", "10.8.0.0"));
    assert_true(allows("0.0.0.0/0", "a.example", "127.0.0.1"));
    assert_false(allows("0.0.0.0/0", "a.example", "::1"));
    assert_true(allows("fd00::/8", "a.example", "fdff::1"));
    assert_false(allows("fd00::/8", "a.example", "fe80::1"));
    assert_false(allows("127.0.0.0/8", "a.example", "::ffff:127.0.0.1")); /* it is another address, and must be named */
    assert_true(allows("::ffff:127.0.0.0/104", "a.example", "::ffff:127.0.0.1"));
    assert_true(allows(" Hooks.LAN. ,, ", "hooks.lan", "10.0.0.7"));
    assert_true(allows("hooks.lan", "HOOKS.lan.", "10.0.0.7"));
    assert_false(allows("hooks.lan", "a.hooks.lan", "10.0.0.7"));
    assert_false(allows("hooks.lan", "hooks.lan.evil.example", "10.0.0.7"));
    static const char *const bad[] = {"10.0.0.0/33",      "10.0.0",       "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x", "::1/129",
                                      "http://a.example", "a.example:80", "a b",       "*",           "[::1]",       "."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        webhook_guard *g;
        error e = {0};
        if (webhook_guard_new(bad[i], &g, &e)) fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(e.code, ERROR_INVALID);
    }
}

static void urls_say_where_they_go(void **state) {
    (void)state;
    const struct {
        const char *url, *host;
        int port;
        bool secure, is_address;
    } good[] = {
        {"http://a.example", "a.example", 80, false, false},         {"https://a.example/x?y=1&z", "a.example", 443, true, false},
        {"HTTPS://A.Example.:8443/", "a.example", 8443, true, false}, {"http://1.2.3.4/", "1.2.3.4", 80, false, true},
        {"http://0x01020304/", "1.2.3.4", 80, false, true},           {"http://1.2.772/", "1.2.3.4", 80, false, true},
        {"http://[2606:4700::1]:81/", "2606:4700::1", 81, false, true}, {"http://xn--exmple-cua.com/", "xn--exmple-cua.com", 80, false, false},
        {"http://a_b.example/", "a_b.example", 80, false, false},
    };
    webhook_target t;
    error e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        e = (error){0};
        if (!webhook_target_parse(good[i].url, &t, &e)) fail_msg("%s: %s", good[i].url, e.text);
        assert_string_equal(t.host, good[i].host);
        assert_int_equal(t.port, good[i].port);
        assert_true(t.secure == good[i].secure && t.is_address == good[i].is_address);
        assert_int_equal(t.is_address, t.address.ss_family != 0);
    }
    static const char *const bad[] = {"",           "a.example",         "//a.example/",      "ftp://a.example/", "http:",          "http://a.example:0x50/",
                                      "http://u@a/", "http://u:pw@a/",    "http://:pw@a/",     "http://a/#x",      "http://a/ b",    "http://a/\r\nx: y", "http://a\\b/",
                                      "http://[::1", "http://[fe80::1%25eth0]/", "http://[a]/", "http://1.2.3.4.5/", "http://a.5/",  "http://a:70000/",   "javascript:1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (error){0};
        if (webhook_target_parse(bad[i], &t, &e)) fail_msg("'%s' was taken, for %s", bad[i], t.host);
        assert_int_equal(e.code, ERROR_INVALID);
        assert_string_equal(e.field, "webhook");
        assert_null(strstr(e.text, "pw"));
    }
}

static void signatures_are_those_of_the_standard(void **state) {
    (void)state;
    webhook_secrets s;
    char signature[WEBHOOK_SIGNATURE_BYTES];
    error e = {0};
    static const char body[] = "{\"test\": 2432232314}";
    assert_true(webhook_secrets_parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "here", &s, &e));
    assert_true(webhook_sign(&s, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, strlen(body), signature, &e));
    assert_string_equal(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_true(webhook_secrets_parse(" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", "here", &s, &e));
    assert_int_equal(s.count, 2);
    assert_true(webhook_sign(&s, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, strlen(body), signature, &e));
    assert_memory_equal(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,", 51);
    static const char *const bad[] = {"", " ,", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
                                      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(webhook_secrets_parse(bad[i], "the setting", &s, &e));
        assert_memory_equal(e.text, "the setting: ", 13);
        assert_null(strstr(e.text, "MfKQ"));
    }
    char many[5 * 40] = "";
    for (int i = 0; i < 5; i++) strcat(many, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,");
    assert_false(webhook_secrets_parse(many, "the setting", &s, &e));
}

static void a_secret_is_made_once(void **state) {
    (void)state;
    char folder[] = "/tmp/imagined-test-XXXXXX", path[64];
    webhook_secrets one, two;
    struct stat info;
    error e = {0};
    bool made;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/secret", folder);
    assert_true(webhook_secrets_keep(path, &one, &made, &e) && made);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_true(webhook_secrets_keep(path, &two, &made, &e) && !made);
    assert_true(one.count == 1 && one.of[0].size == 32);
    assert_memory_equal(one.of[0].bytes, two.of[0].bytes, 32);
    assert_true(file_replace(path, "x", 1, &e));
    assert_false(webhook_secrets_keep(path, &two, &made, &e)); /* somebody's file is not written over */
    assert_non_null(strstr(e.text, path));
    unlink(path);
    rmdir(folder);
}

static void attempts_come_when_the_standard_says(void **state) {
    (void)state;
    static const int64_t seconds[] = {0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400};
    int64_t low = INT64_MAX, high = 0;
    for (int made = 0; made < WEBHOOK_ATTEMPTS; made++) {
        int64_t ms = seconds[made] * 1000;
        for (uint64_t random = 0; random < 5000; random++) {
            int64_t next = webhook_schedule_next(made, random * 0x9E3779B97F4A7C15u, 0);
            assert_in_range(next, ms - ms / 10, ms + ms / 10);
            if (made == 2 && next < low) low = next;
            if (made == 2 && next > high) high = next;
        }
        assert_in_range(webhook_schedule_next(made, UINT64_MAX, 0), ms - ms / 10, ms + ms / 10);
    }
    assert_true(low < 271000 && high > 329000); /* it does spread */
    assert_int_equal(webhook_schedule_next(WEBHOOK_ATTEMPTS, 1, 0), -1);
    assert_int_equal(webhook_schedule_next(WEBHOOK_ATTEMPTS, 1, 60), -1);
    assert_int_equal(webhook_schedule_next(INT32_MAX, 1, 0), -1);
    /* What the receiver asks for, where that is longer, and within bounds. */
    assert_int_equal(webhook_schedule_next(1, 0, 60), 60000);
    assert_true(webhook_schedule_next(9, 0, 60) > 70000000);
    assert_int_equal(webhook_schedule_next(1, 0, INT64_MAX), WEBHOOK_LONGEST_RETRY_AFTER_SECONDS * (int64_t)1000);
    assert_true(webhook_schedule_next(1, 0, -5) >= 4500);
}

static void too_many_messages_take_no_further_task(void **state) {
    (void)state;
    static const char text[] = "{\"webhook\": \"https://a.example/\"}", none[] = "{\"prompt\": \"x\"}";
    char folder[] = "/tmp/imagined-test-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    loop *l;
    webhooks *w;
    json_document with, without;
    task_request r = {0};
    error e = {0};
    assert_true(loop_new(&l, &e));
    const webhooks_options options = {.loop = l, .state_folder = folder, .secret = "", .allowed = "", .authorities = ""};
    assert_true(webhooks_new(&options, &w, &e));
    assert_true(json_parse(text, strlen(text), "the request body", &with, &e) &&
                json_parse(none, strlen(none), "the request body", &without, &e));
    for (int i = 0; i < WEBHOOKS_PENDING; i++) {
        char id[16];
        assert_true(webhooks_read(w, json_root(&with), &r, &e));
        snprintf(id, sizeof id, "m-%d", i);
        webhooks_restore(w, &(stored_webhook){id, "t", "https://a.example/", "{}", 0, 1});
    }
    assert_string_equal(r.webhook, "https://a.example/");
    assert_int_equal(r.webhook_events, WEBHOOK_COMPLETED);
    assert_false(webhooks_read(w, json_root(&with), &r, &e));
    assert_int_equal(e.code, ERROR_BUSY);
    assert_true(webhooks_read(w, json_root(&without), &r, &e));
    assert_int_equal(webhooks_get_stats(w).pending, WEBHOOKS_PENDING);
    json_document_free(&with);
    json_document_free(&without);
    webhooks_free(w);
    loop_free(l);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(special_addresses_are_not_public),     cmocka_unit_test(the_operator_can_allow_more),
        cmocka_unit_test(urls_say_where_they_go),               cmocka_unit_test(signatures_are_those_of_the_standard),
        cmocka_unit_test(a_secret_is_made_once),                cmocka_unit_test(attempts_come_when_the_standard_says),
        cmocka_unit_test(too_many_messages_take_no_further_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
