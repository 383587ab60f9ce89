/* body.h: request bodies and options that the benchmarks share. */
#ifndef BENCH_BODY_H
#define BENCH_BODY_H

#include <stddef.h>

#define BENCH_SAFETENSORS  "application/vnd.safetensors"
#define BENCH_HEADER_BYTES ((size_t)128) /* of a safetensors body: length and header, padded */

/* A safetensors file of one float32 tensor "w"; in pages that are there already. */
typedef struct bench_body {
    char *bytes;
    size_t length; /* BENCH_HEADER_BYTES + 4 bytes a number */
} bench_body;

bench_body bench_body_make(size_t numbers);
void bench_body_free(bench_body *body);

/* Memory in pages that are there already. */
char *bench_map(size_t bytes);
void bench_unmap(char *memory, size_t bytes);

typedef struct bench_options {
    const char *adamd; /* path of the server */
    const char *json;  /* file for the results, or NULL */
} bench_options;

/* --adamd PATH and --json FILE; ends the program where they are not as expected. */
bench_options bench_options_read(int argc, char **argv);

/* The path of a program that lies beside the one of path `self`. */
void bench_beside(const char *self, const char *name, char *out, size_t size);

#endif
