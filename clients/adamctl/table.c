/* table.c: output for people: columns, numbers, clean text. Knows no server. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adamctl.h"

/* A tool that has no memory for a table has nothing better to do than to say so and end. */
static void *need(void *memory)
{
    if (memory == NULL) {
        (void)fputs("adamctl: out of memory\n", stderr);
        exit(CTL_REFUSED);
    }
    return memory;
}

bool ctl_is_terminal(void)
{
    return isatty(STDOUT_FILENO) != 0;
}

void ctl_clean(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
        if (*c < 0x20 || *c == 0x7F) {
            *c = '?';
        } else if (c[0] == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0) { /* C1 controls, in UTF-8 */
            c[0] = c[1] = '?';
        }
    }
}

void ctl_print(const char *text)
{
    size_t n = strlen(text);
    (void)fputs(text, stdout);
    if (n == 0 || text[n - 1] != '\n') {
        (void)putchar('\n');
    }
}

const char *ctl_bytes(double bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return out;
}

double ctl_number_of(const cJSON *object, const char *member)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, member);
    return cJSON_IsNumber(value) ? value->valuedouble : 0;
}

const char *ctl_text_of(const cJSON *object, const char *member)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, member));
    return text != NULL ? text : "";
}

void ctl_table_begin(ctl_table *table, const char *align)
{
    *table = (ctl_table){.columns = strlen(align), .align = align};
}

static void add(ctl_table *table, char *text)
{
    if ((table->n & (table->n - 1)) == 0) {
        size_t room = table->n > 0 ? 2 * table->n : 1;
        table->cells = need(realloc(table->cells, room * sizeof *table->cells));
    }
    ctl_clean(text);
    table->cells[table->n++] = text;
}

void ctl_cell(ctl_table *table, const char *format, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    add(table, need(length >= 0 ? text : NULL));
}

void ctl_cell_json(ctl_table *table, const cJSON *value)
{
    if (value == NULL || cJSON_IsNull(value)) {
        ctl_cell(table, "-");
    } else if (cJSON_IsString(value)) {
        ctl_cell(table, "%s", value->valuestring);
    } else if (cJSON_IsBool(value)) {
        ctl_cell(table, cJSON_IsTrue(value) ? "yes" : "no");
    } else {
        char *text = need(cJSON_PrintUnformatted(value));
        ctl_cell(table, "%s", text);
        cJSON_free(text);
    }
}

/* Columns that a text takes, about: characters, not bytes. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        n += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return n;
}

void ctl_table_end(ctl_table *table)
{
    size_t *widths = need(calloc(table->columns, sizeof *widths));
    bool bold = ctl_is_terminal() && getenv("NO_COLOR") == NULL;
    for (size_t i = 0; i < table->n; i++) {
        size_t width = width_of(table->cells[i]);
        size_t column = i % table->columns;
        widths[column] = width > widths[column] ? width : widths[column];
    }
    for (size_t i = 0; i < table->n; i++) {
        size_t column = i % table->columns;
        bool last = column + 1 == table->columns;
        size_t blanks = widths[column] - width_of(table->cells[i]);
        bool right = table->align[column] == 'r';
        (void)printf("%s%*s%s%*s%s", bold && i == 0 ? "\033[1m" : "", right ? (int)blanks : 0, "",
                     table->cells[i], right || last ? 0 : (int)blanks, "", last ? "" : "  ");
        if (last) {
            (void)puts(bold && i < table->columns ? "\033[0m" : "");
        }
        free(table->cells[i]);
    }
    free(table->cells);
    free(widths);
    *table = (ctl_table){0};
}
