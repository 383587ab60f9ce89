/* test_command_line.c: options, variables and the log. */
#include <cjson/cJSON.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adam/tensor.h"
#include "peer.h"
#include "raw.h"

/* Whether the text is one line that begins with `begin` and holds `part`. */
static void assert_line(const char *text, const char *begin, const char *part)
{
    const char *newline = strchr(text, '\n');
    if (newline == NULL || newline[1] != '\0' || strncmp(text, begin, strlen(begin)) != 0 ||
        strstr(text, part) == NULL) {
        fail_msg("expected a line '%s ... %s', got '%s'", begin, part, text);
    }
}

/* A run that is refused: status 2, one line on standard error that names what is wrong. */
static void refuse(const char *const *arguments, const char *const *environment, const char *part)
{
    run r;
    server_run(arguments, environment, &r);
    assert_line(r.err, "adamd: ", part);
    assert_int_equal(r.status, 2);
    assert_string_equal(r.out, "");
}

/* --version is one line on standard output. */
static void test_version(void **state)
{
    static const char *const arguments[] = {"--version", NULL};
    (void)state;
    run r;
    server_run(arguments, NULL, &r);
    assert_int_equal(r.status, 0);
    assert_line(r.out, "adamd ", ".");
    assert_string_equal(r.err, "");
}

/* Help names every option, and its default. */
static void test_help(void **state)
{
    static const char *const spellings[] = {"--help", "-h"};
    static const char *const parts[] = {"--host ADDRESS",
                                        "--port N",
                                        "--threads N",
                                        "--max-body BYTES",
                                        "--max-json-body",
                                        "--max-memory",
                                        "--max-connections",
                                        "--timeout SECONDS",
                                        "--log-level",
                                        "--log-format",
                                        "--version",
                                        "--help",
                                        "--idempotency-keys N",
                                        "--idempotency-ttl SECONDS",
                                        "--worker-ttl SECONDS",
                                        "--data-dir DIR",
                                        "--fsync always|everysec|never",
                                        "--journal gradients|off",
                                        "--journal-size BYTES",
                                        "--snapshot-interval SECONDS",
                                        "--recover-to-last-good",
                                        "--check",
                                        "--replay NAME",
                                        "--to STEP",
                                        "(127.0.0.1)",
                                        "(2326)",
                                        "ADAMD_MAX_BODY",
                                        "ADAM_KERNEL"};
    (void)state;
    for (size_t i = 0; i < COUNT(spellings); i++) {
        const char *const arguments[] = {spellings[i], NULL};
        run r;
        server_run(arguments, NULL, &r);
        assert_int_equal(r.status, 0);
        assert_string_equal(r.err, "");
        for (size_t k = 0; k < COUNT(parts); k++) {
            if (strstr(r.out, parts[k]) == NULL) {
                fail_msg("%s is not in the help", parts[k]);
            }
        }
    }
}

/* A wrong option stops the start, with one line that names it. */
static void test_bad_options(void **state)
{
    static const char *const bad[][3] = {{"--prot", "1"},
                                         {"--Port", "1"},
                                         {"port"},
                                         {"-p", "1"},
                                         {"--port"},
                                         {"--port", "65536"},
                                         {"--port", "-1"},
                                         {"--port", "1x"},
                                         {"--port", ""},
                                         {"--port", "1K"},
                                         {"--port="},
                                         {"--port= 1"},
                                         {"--threads", "0"},
                                         {"--threads", "257"},
                                         {"--max-body", "0"},
                                         {"--max-body", "1Q"},
                                         {"--max-body", "1KK"},
                                         {"--max-body", "99999999999999999999"},
                                         {"--max-body", "9999999T"},
                                         {"--max-json-body", "2G"},
                                         {"--max-memory", "1000"},
                                         {"--max-connections", "0"},
                                         {"--timeout", "0"},
                                         {"--timeout", "0.5"},
                                         {"--history", "0"},
                                         {"--history", "1000001"},
                                         {"--idempotency-keys", "-1"},
                                         {"--idempotency-keys", "1000001"},
                                         {"--idempotency-ttl", "0"},
                                         {"--idempotency-ttl", "31536001"},
                                         {"--worker-ttl", "1h"},
                                         {"--worker-ttl", "31536001"},
                                         {"--heartbeat", "0"},
                                         {"--heartbeat", "86401"},
                                         {"--log-level", "loud"},
                                         {"--log-level", ""},
                                         {"--log-level", "error|warn"},
                                         {"--log-format", "xml"},
                                         {"--host", ""},
                                         {"--data-dir", ""},
                                         {"--fsync", "sometimes"},
                                         {"--journal", "on"},
                                         {"--journal-size", "1000"},
                                         {"--snapshot-interval", "31536001"},
                                         {"--check=yes"},
                                         {"--recover-to-last-good=1"},
                                         {"--check"}, /* without --data-dir, as the next three */
                                         {"--recover-to-last-good"},
                                         {"--replay", "a"},
                                         {"--to", "3"},
                                         {"--replay"},
                                         {"--to", "-1"}};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        char option[64];
        (void)snprintf(option, sizeof option, "%.*s", (int)strcspn(bad[i][0], "="), bad[i][0]);
        refuse(bad[i], NULL, option);
    }
}

/* An address that cannot be listened on. */
static void test_bad_address(void **state)
{
    static const char *const host[] = {"--host", "no.such.host.invalid", "--port", "0", NULL};
    static const char *const foreign[] = {"--host", "192.0.2.1", "--port", "0", NULL};
    (void)state;
    server s;
    char port[16];
    server_start(&s, NULL);
    (void)snprintf(port, sizeof port, "%u", s.port);
    const char *const taken[] = {"--port", port, NULL};
    refuse(taken, NULL, port);
    refuse(host, NULL, "no.such.host.invalid");
    refuse(foreign, NULL, "192.0.2.1");
    server_stop(&s);
}

/* Each option is a variable too; the command line goes first. */
static void test_variables(void **state)
{
    static const char *const environment[] = {"ADAMD_MAX_JSON_BODY=1K", "ADAMD_LOG_LEVEL=error",
                                              NULL};
    static const char *const options[] = {"--max-json-body", "2K", NULL};
    static const char *const bad[] = {"ADAMD_TIMEOUT=soon", NULL};
    static const char *const empty[] = {"ADAMD_PORT=", NULL};
    static const char *const kernel[] = {"ADAM_KERNEL=nonsense", NULL};
    (void)state;
    for (int k = 0; k < 2; k++) {
        server s;
        peer p;
        server_start_in(&s, k == 1 ? options : NULL, environment);
        peer_open(&p, s.url);
        char body[1500] = "";
        memset(body, ' ', sizeof body - 1);
        (void)ask_json(&p, "PUT", at("a", ""), body);
        if (k == 0) {
            assert_problem(&p, 413, "body-too-large", "\"limit_bytes\": 1024");
        } else {
            assert_problem(&p, 400, "malformed-json", NULL);
        }
        peer_close(&p);
        char *log = server_log(&s);
        assert_string_equal(log, ""); /* nothing of that is an error */
        free(log);
        server_stop(&s);
    }
    refuse(NULL, bad, "ADAMD_TIMEOUT");
    refuse(NULL, empty, "ADAMD_PORT");
    refuse(NULL, kernel, "nonsense");
}

/* ADAM_KERNEL decides what the server says it runs on. */
static void test_kernel(void **state)
{
    static const char *const environment[] = {"ADAM_KERNEL=scalar", NULL};
    (void)state;
    server s;
    peer p;
    server_start_in(&s, NULL, environment);
    peer_open(&p, s.url);
    (void)get(&p, "/");
    assert_has(&p, 200, "\"kernel\": \"scalar\"");
    peer_close(&p);
    server_stop(&s);
}

/* Whether the machine knows the host: a bare one may have no /etc/hosts, or no IPv6. */
static bool has_host(const char *host)
{
    struct addrinfo *found = NULL;
    const bool known = getaddrinfo(host, NULL, NULL, &found) == 0;
    if (known) {
        freeaddrinfo(found);
    }
    return known && (strcmp(host, "::1") != 0 || access("/proc/net/if_inet6", R_OK) == 0);
}

/* Names and other families are listened on as well. */
static void test_hosts(void **state)
{
    static const char *const hosts[] = {"localhost", "::1", "0.0.0.0"};
    (void)state;
    for (size_t i = 0; i < COUNT(hosts); i++) {
        const char *const options[] = {"--host", hosts[i], NULL};
        if (!has_host(hosts[i])) {
            continue;
        }
        server s;
        peer p;
        server_start(&s, options);
        peer_open(&p, s.url);
        (void)get(&p, "/livez");
        assert_status(&p, 200);
        peer_close(&p);
        server_stop(&s);
    }
}

/* Requests whose paths, names and workers a careless log would trip over. */
static void make_log(const server *s)
{
    peer p;
    raw_reply r;
    peer_open(&p, s->url);
    create(&p, "a", "{\"params\": {\"w\\n\\\"\": [1]}}");
    (void)get_with(&p, "/quote\"backslash\\", "Adam-Worker: \"\\{}%s%n");
    (void)ask_json_with(&p, "POST", at("a", "/step"), "Adam-Worker: \"rank\\3\"", "{}");
    raw_ask(s, "GET /\xff\xc3\x01 HTTP/1.1\r\nHost: x\r\n\r\n", &r);
    raw_ask(s, "GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", &r);
    raw_ask(s, "\"GET\\ /livez HTTP/1.1\r\nHost: x\r\n\r\n", &r);
    char path[4096] = "/";
    for (size_t i = 1; i + 8 < sizeof path; i += 2) {
        memcpy(path + i, "\"\xe9", 2);
    }
    (void)get(&p, path);
    peer_close(&p);
}

/* --log-format json: every line is one JSON object, whatever the clients send. */
static void test_json_log(void **state)
{
    static const char *const options[] = {"--log-format", "json", "--log-level", "debug", NULL};
    (void)state;
    server s;
    server_start(&s, options);
    make_log(&s);
    char *log = server_log(&s);
    size_t lines = 0;
    bool saw_worker = false;
    for (char *line = log; *line != '\0'; lines++) {
        char *end = strchr(line, '\n');
        const char *parsed = NULL;
        assert_non_null(end);
        *end = '\0';
        if (!adam_utf8_valid(line, strlen(line))) {
            fail_msg("not UTF-8: %s", line);
        }
        cJSON *object = cJSON_ParseWithOpts(line, &parsed, 1);
        if (!cJSON_IsObject(object) || !cJSON_IsString(cJSON_GetObjectItem(object, "time")) ||
            !cJSON_IsString(cJSON_GetObjectItem(object, "level")) ||
            !cJSON_IsString(cJSON_GetObjectItem(object, "message"))) {
            fail_msg("no JSON object: %s", line);
        }
        const char *message = cJSON_GetObjectItem(object, "message")->valuestring;
        saw_worker |= strstr(message, "worker \"rank\\3\"") != NULL;
        cJSON_Delete(object);
        line = end + 1;
    }
    assert_true(lines >= 8);
    assert_true(saw_worker);
    free(log);
    server_stop(&s);
}

/* In text, too, every line is a line of the log's own: date, level, message. */
static void test_text_log(void **state)
{
    static const char *const options[] = {"--log-level", "debug", NULL};
    (void)state;
    server s;
    server_start(&s, options);
    make_log(&s);
    char *log = server_log(&s);
    for (char *line = log; *line != '\0';) {
        unsigned year;
        char level[8] = "";
        char *end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        if (sscanf(line, "%4u-%*2u-%*2uT%*2u:%*2u:%*6[0-9.]Z %7s", &year, level) != 2 ||
            strstr("error warn info debug", level) == NULL) {
            fail_msg("no line of the log: %s", line);
        }
        line = end + 1;
    }
    free(log);
    server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version),     cmocka_unit_test(test_help),
        cmocka_unit_test(test_bad_options), cmocka_unit_test(test_bad_address),
        cmocka_unit_test(test_variables),   cmocka_unit_test(test_kernel),
        cmocka_unit_test(test_hosts),       cmocka_unit_test(test_json_log),
        cmocka_unit_test(test_text_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
