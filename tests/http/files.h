/* files.h: safetensors bodies in tests, well-made and ill-made, and replies taken apart. */
#ifndef ADAMD_TEST_FILES_H
#define ADAMD_TEST_FILES_H

#include "peer.h"

/* A file in memory; let go with file_free. */
typedef struct file {
    unsigned char *bytes;
    size_t length;
} file;

/* A tensor of rank 1. */
adamd_tensor vector32(const char *name, float *data, uint64_t n);
adamd_tensor vector64(const char *name, double *data, uint64_t n);

/* A well-made file, with one member in its metadata, or none where `key` is NULL. */
file file_of(const adamd_tensor *tensors, size_t n, const char *key, const char *value);
/* A file with this header as it stands, whose length is `said`, and then this data. */
file file_raw(uint64_t said, const char *header, const void *data, size_t data_length);
/* The same with the true length. */
file file_with(const char *header, const void *data, size_t data_length);
void file_free(file *f);

/* Sends it; the status. */
int ask_file(peer *p, const char *method, const char *path, const char *accept, file f);

/* Asserts status 200 and a safetensors reply, and copies its tensors, which must be these. */
void take_tensors(peer *p, const adamd_tensor *tensors, size_t n);
/* Asserts that the reply's metadata has this value. */
void assert_metadata(const peer *p, const char *key, const char *value);

/* A reply's safetensors header, as text; the caller's. */
char *header_text(const peer *p);

#endif
