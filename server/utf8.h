/* utf8.h: text that comes from clients and goes into JSON. */
#ifndef ADAMD_UTF8_H
#define ADAMD_UTF8_H

/* What a client sent may not be UTF-8, or was cut within a character to fit. Whatever in `text` is
 * not UTF-8 becomes '?'. */
void utf8_mend(char *text);

#endif
