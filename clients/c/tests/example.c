/* example.c: the README's example as a program, which install_test.sh takes from there: URL and
 * name of an optimizer, which it makes. */
#include <stdio.h>
#include <stdlib.h>

#include <adamd_client.h>

static void fail(const char *why)
{
    (void)fprintf(stderr, "%s\n", why);
    exit(EXIT_FAILURE);
}

/* Of the loss (w0^2 + w1^2) / 2, until it is small. */
static int compute_gradients(const float *w, float *g)
{
    g[0] = w[0];
    g[1] = w[1];
    return w[0] * w[0] + w[1] * w[1] > 1e-2F;
}

int main(int argc, char **argv)
{
    const char *url = argc == 3 ? argv[1] : "http://127.0.0.1:2326";
    const char *name = argc == 3 ? argv[2] : "mlp";
#include "example.inc"
    return EXIT_SUCCESS;
}
