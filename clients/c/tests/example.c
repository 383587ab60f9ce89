/* example.c: the README's example as a program: URL and name of an optimizer, which it makes. */
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
    float w[2] = {0.5F, -1}, g[2];
    adamd_tensor params[] = {{"w", ADAMD_FLOAT32, 1, {2}, w}};
    adamd_tensor grads[] = {{"w", ADAMD_FLOAT32, 1, {2}, g}};
    adamd_client *client;
    adamd_error error;
    if (adamd_open(url, NULL, &client, &error) != ADAMD_OK ||
        adamd_create(client, name, "{\"defaults\": {\"lr\": 0.1}}", params, 1, &error) != ADAMD_OK)
        fail(error.message);
    while (compute_gradients(w, g)) /* the updated values arrive in w */
        if (adamd_step(client, name, grads, 1, params, NULL, NULL, &error) != ADAMD_OK)
            fail(error.message);
    adamd_close(client);
    return EXIT_SUCCESS;
}
