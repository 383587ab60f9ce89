/* openapi.h: docs/openapi.yaml, built in. */
#ifndef ADAMD_OPENAPI_H
#define ADAMD_OPENAPI_H

#include <stddef.h>

extern const unsigned char openapi_yaml[];
extern const size_t openapi_yaml_length;

#endif
