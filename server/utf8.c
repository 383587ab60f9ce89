/* utf8.c: mending UTF-8. */
#include "utf8.h"

#include "adam/tensor.h"

void utf8_mend(char *text)
{
    while (*text != '\0') {
        size_t length = 1;
        while (length < 4 && text[length - 1] != '\0' && !adam_utf8_valid(text, length)) {
            length++;
        }
        if (adam_utf8_valid(text, length)) {
            text += length;
        } else {
            *text++ = '?';
        }
    }
}
