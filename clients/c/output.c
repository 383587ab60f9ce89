/* output.c: files in and out: mapped where they are read, renamed when they are whole where they
 * are written. Knows no safetensors. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

static adamd_status failed(adamd_error *error, const char *what, const char *path)
{
    return adamdc_error_set(error, ADAMD_FILE, "%s %s: %s", what, path, strerror(errno));
}

adamd_status adamdc_map(const char *path, adamdc_mapping *mapping, adamd_error *error)
{
    *mapping = (adamdc_mapping){0};
    if (path == NULL) {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "expected the path of a file");
    }
    struct stat about;
    adamd_status status = ADAMD_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) {
        status = failed(error, "cannot open", path);
        goto out;
    }
    if (!S_ISREG(about.st_mode)) {
        status = adamdc_error_set(error, ADAMD_FILE, "%s: expected a regular file", path);
        goto out;
    }
    if (about.st_size > 0) {
        void *bytes = mmap(NULL, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED) {
            status = failed(error, "cannot map", path);
            goto out;
        }
        *mapping = (adamdc_mapping){bytes, (size_t)about.st_size};
    }
out:
    if (fd >= 0) {
        (void)close(fd);
    }
    return status;
}

void adamdc_unmap(adamdc_mapping *mapping)
{
    if (mapping->bytes != NULL) {
        (void)munmap(mapping->bytes, mapping->length);
    }
    *mapping = (adamdc_mapping){0};
}

adamd_status adamdc_output_begin(adamdc_output *out, const char *path, adamd_error *error)
{
    *out = (adamdc_output){.fd = -1};
    if (path == NULL || *path == '\0') {
        return adamdc_error_set(error, ADAMD_INVALID_ARGUMENT, "expected the path of a file");
    }
    size_t size = strlen(path) + sizeof ".part";
    out->path = strdup(path);
    out->part = malloc(size);
    if (out->path == NULL || out->part == NULL) {
        free(out->path);
        free(out->part);
        return adamdc_error_no_memory(error, size);
    }
    (void)snprintf(out->part, size, "%s.part", path);
    out->fd = open(out->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out->fd < 0) {
        adamd_status status = failed(error, "cannot create", out->part);
        free(out->path);
        free(out->part);
        return status;
    }
    return ADAMD_OK;
}

adamd_status adamdc_output_write(adamdc_output *out, const void *bytes, size_t length,
                                 adamd_error *error)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t n = write(out->fd, at, length);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return failed(error, "cannot write", out->part);
        }
        at += n;
        length -= (size_t)n;
    }
    return ADAMD_OK;
}

adamd_status adamdc_output_rewind(adamdc_output *out, adamd_error *error)
{
    return ftruncate(out->fd, 0) == 0 && lseek(out->fd, 0, SEEK_SET) == 0
               ? ADAMD_OK
               : failed(error, "cannot truncate", out->part);
}

adamd_status adamdc_output_end(adamdc_output *out, adamd_status status, adamd_error *error)
{
    if (status == ADAMD_OK && fsync(out->fd) != 0) {
        status = failed(error, "cannot write", out->part);
    }
    (void)close(out->fd);
    if (status == ADAMD_OK && rename(out->part, out->path) != 0) {
        status = failed(error, "cannot rename to", out->path);
    }
    if (status != ADAMD_OK) {
        (void)unlink(out->part);
    }
    free(out->path);
    free(out->part);
    return status;
}
