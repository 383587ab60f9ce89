/* retry.c: when a call is sent again, and the key by which its repeats are known. Sends nothing. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "internal.h"

#define DEFAULT_RETRIES 8
#define FIRST_WAIT_MS   100U
#define LONGEST_WAIT_MS 5000U
#define LONGEST_RETRY_S 60L /* of Retry-After: a server that is away longer is given up */

uint64_t adamdc_now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* False where the system has no random bytes to give. */
static bool random_bytes(void *out, size_t length)
{
    ssize_t got = -1;
    do {
        got = getrandom(out, length, 0);
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)length; /* up to 256 bytes come whole */
}

void adamdc_retry_begin(adamdc_retry *retry, const adamd_client_options *options, bool repeats)
{
    unsigned most = options->max_retries < 0    ? 0
                    : options->max_retries == 0 ? DEFAULT_RETRIES
                                                : (unsigned)options->max_retries;
    *retry = (adamdc_retry){
        .left = repeats ? most : 0,
        .tried = 1,
        .limit_ms = FIRST_WAIT_MS,
        .deadline = options->timeout_ms > 0 ? adamdc_now_ms() + options->timeout_ms : 0,
    };
}

unsigned adamdc_retry_time(const adamdc_retry *retry)
{
    if (retry->deadline == 0) {
        return 0;
    }
    uint64_t now = adamdc_now_ms();
    return retry->deadline > now ? (unsigned)(retry->deadline - now) : 1;
}

bool adamdc_retry_next(adamdc_retry *retry, long at_least, uint64_t *wait_ms)
{
    if (retry->left == 0 || at_least > LONGEST_RETRY_S) {
        return false;
    }
    /* Full jitter: clients that lost their server together do not come back together. */
    uint32_t number = UINT32_MAX;
    (void)random_bytes(&number, sizeof number);
    uint64_t wait = (uint64_t)retry->limit_ms * number >> 32;
    wait += at_least > 0 ? (uint64_t)at_least * 1000 : 0;
    if (retry->deadline != 0 && adamdc_now_ms() + wait >= retry->deadline) {
        return false;
    }
    *wait_ms = wait;
    retry->left--;
    retry->tried++;
    retry->limit_ms = retry->limit_ms < LONGEST_WAIT_MS / 2 ? retry->limit_ms * 2 : LONGEST_WAIT_MS;
    return true;
}

void adamdc_retry_sleep(uint64_t wait_ms)
{
    struct timespec left = {(time_t)(wait_ms / 1000), (long)(wait_ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

adamd_status adamdc_retry_key(char key[ADAMDC_KEY_SIZE], adamd_error *error)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[(ADAMDC_KEY_SIZE - 1) / 2];
    if (!random_bytes(bytes, sizeof bytes)) {
        return adamdc_error_set(error, ADAMD_NO_MEMORY, "getrandom: %s", strerror(errno));
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        key[2 * i] = digits[bytes[i] >> 4];
        key[2 * i + 1] = digits[bytes[i] & 15];
    }
    key[2 * sizeof bytes] = '\0';
    return ADAMD_OK;
}
