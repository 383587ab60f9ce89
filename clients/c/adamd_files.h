/* adamd_files.h: safetensors files on disk: as tensors, and from and to a server.
 * adamd_client.h includes this file.
 *
 * A file that is written appears under its name when it is whole: until then it is PATH.part, which
 * an error removes. */
#ifndef ADAMD_FILES_H
#define ADAMD_FILES_H

#include "adamd_client.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct adamd_metadata {
    const char *key, *value;
} adamd_metadata;

/* --- a file as tensors ----------------------------------------------------------------------- */

typedef struct adamd_file adamd_file;

/* Maps a safetensors file. On success *file is the caller's, for adamd_file_close; on an error it
 * is NULL. Errors: FILE, NO_MEMORY, INVALID_ARGUMENT (the file is malformed, or has tensors of
 * other types than adamd_dtype's). */
adamd_status adamd_file_open(const char *path, adamd_file **file, adamd_error *error);

/* The file's tensors, in the order of their data. They and their data are the file's, until it is
 * closed. Their data may be written to (by adamd_step, say), which does not change what is on
 * disk. */
const adamd_tensor *adamd_file_tensors(const adamd_file *file, size_t *n);

/* One member of the file's __metadata__, or NULL. The file's. */
const char *adamd_file_metadata(const adamd_file *file, const char *key);

void adamd_file_close(adamd_file *file);

/* Writes tensors. Errors: FILE, INVALID_ARGUMENT, NO_MEMORY. */
adamd_status adamd_file_write(const char *path, const adamd_tensor *tensors, size_t n,
                              const adamd_metadata *metadata, size_t n_metadata,
                              adamd_error *error);

/* --- an optimizer's files -------------------------------------------------------------------- */

/* Errors of these: FILE, and those of the calls on optimizers. */

/* All parameters into a file. `dtype` is "f32", "f64", "bf16", "f16", or NULL: their own. */
adamd_status adamd_save_params(adamd_client *client, const char *name, const char *dtype,
                               const char *path, adamd_error *error);

/* Overwrites the values of all parameters with those of a file; moments and step counts stay. */
adamd_status adamd_load_params(adamd_client *client, const char *name, const char *path,
                               adamd_error *error);

/* Everything that decides the next step into a file. */
adamd_status adamd_save_state_dict(adamd_client *client, const char *name, const char *path,
                                   adamd_error *error);

/* Back in: `load` is "everything", or "params": the values of the parameters alone. */
adamd_status adamd_load_state_dict(adamd_client *client, const char *name, const char *load,
                                   const char *path, adamd_error *error);

/* The same from and to memory. On success *bytes is the caller's, to be given to free(); on an
 * error it is NULL; TOO_LARGE over options.max_reply. */
adamd_status adamd_get_state_dict(adamd_client *client, const char *name, unsigned char **bytes,
                                  size_t *length, adamd_error *error);
adamd_status adamd_put_state_dict(adamd_client *client, const char *name, const char *load,
                                  const void *bytes, size_t length, adamd_error *error);

/* --- safetensors in one piece, in memory ----------------------------------------------------- */

/* A whole safetensors file. On success *bytes is the caller's, to be given to free(); on an error
 * it is NULL. Errors: INVALID_ARGUMENT, NO_MEMORY. */
adamd_status adamd_safetensors_pack(const adamd_tensor *tensors, size_t n,
                                    const adamd_metadata *metadata, size_t n_metadata,
                                    unsigned char **bytes, size_t *length, adamd_error *error);

/* Copies the tensors of a safetensors file into `tensors`, which must name all of them, with their
 * dtypes and shapes. Errors: INVALID_ARGUMENT, NO_MEMORY, BAD_REPLY. */
adamd_status adamd_safetensors_unpack(const void *bytes, size_t length, const adamd_tensor *tensors,
                                      size_t n, adamd_error *error);

/* The text of one member of a file's __metadata__ into `value` (of `size` bytes). False, with "" in
 * it, where the file is malformed, has no such member, or the text does not fit. */
bool adamd_safetensors_metadata(const void *bytes, size_t length, const char *key, char *value,
                                size_t size);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
