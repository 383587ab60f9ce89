// number.cpp: any number as text, by <charconv>. The one file in C++, for lack of these two in C.
#include "number.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <system_error>

namespace
{

// Digits d[0..n) with the decimal point after the first, times 10^exponent, in the layout of
// Python's repr: positional from 1e-4 up to below 1e16.
size_t lay_out(const char *d, int n, int exponent, char *out)
{
    char *o = out;
    if (exponent < -4 || exponent >= 16) {
        *o++ = d[0];
        if (n > 1) {
            *o++ = '.';
            std::memcpy(o, d + 1, n - 1);
            o += n - 1;
        }
        *o++ = 'e';
        *o++ = exponent < 0 ? '-' : '+';
        const int magnitude = exponent < 0 ? -exponent : exponent;
        if (magnitude < 10) {
            *o++ = '0';
        }
        return std::to_chars(o, o + 4, magnitude).ptr - out;
    }
    if (exponent < 0) {
        *o++ = '0';
        *o++ = '.';
        for (int i = -1; i > exponent; i--) {
            *o++ = '0';
        }
        std::memcpy(o, d, n);
        return o + n - out;
    }
    for (int i = 0; i <= exponent; i++) {
        *o++ = i < n ? d[i] : '0';
    }
    if (n > exponent + 1) {
        *o++ = '.';
        std::memcpy(o, d + exponent + 1, n - exponent - 1);
        o += n - exponent - 1;
    }
    return o - out;
}

template <typename Real> size_t print(Real value, char *out)
{
    const char *special = std::isnan(value)   ? "\"NaN\""
                          : std::isinf(value) ? value > 0 ? "\"Infinity\"" : "\"-Infinity\""
                          : value == 0 && std::signbit(value) ? "-0.0"
                          : value == 0                        ? "0"
                                                              : nullptr;
    if (special != nullptr) {
        const size_t length = std::strlen(special);
        std::memcpy(out, special, length);
        return length;
    }
    // "-d.ddde-dd", the shortest that reads back
    char text[NUMBER_MAX_TEXT];
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific);
    const char *mark = static_cast<const char *>(std::memchr(text, 'e', end.ptr - text));
    int exponent = 0;
    std::from_chars(mark[1] == '+' ? mark + 2 : mark + 1, end.ptr, exponent);
    const char *from = text;
    size_t sign = 0;
    if (*from == '-') {
        out[sign++] = *from++;
    }
    char digits[NUMBER_MAX_TEXT];
    int n = 0;
    for (; from < mark; from++) {
        if (*from != '.') {
            digits[n++] = *from;
        }
    }
    return sign + lay_out(digits, n, exponent, out + sign);
}

// Roughly the decimal exponent of a number that is not 0: the place of its first digit that is not
// 0, counted from the point, and its exponent.
long long magnitude(const char *digits, size_t length)
{
    const char *end = digits + length;
    const char *mark = digits;
    while (mark < end && *mark != 'e' && *mark != 'E') {
        mark++;
    }
    const char *point = static_cast<const char *>(std::memchr(digits, '.', mark - digits));
    const char *first = digits;
    while (first < mark && (*first < '1' || *first > '9')) {
        first++;
    }
    const char *whole_end = point != nullptr ? point : mark;
    const long long place = first < whole_end ? whole_end - first - 1 : whole_end - first;
    if (mark == end) {
        return place;
    }
    const char *from = mark + 1;
    const bool negative = *from == '-';
    from += *from == '-' || *from == '+';
    long long exponent = 0;
    for (; from < end && exponent < 1000000000000LL; from++) {
        exponent = exponent * 10 + (*from - '0');
    }
    return place + (negative ? -exponent : exponent);
}

template <typename Real> const char *take(const char *text, const char *end, Real *value)
{
    const auto got = std::from_chars(text, end, *value);
    if (got.ec == std::errc()) {
        return std::isfinite(*value) ? got.ptr : nullptr;
    }
    if (got.ec != std::errc::result_out_of_range) {
        return nullptr;
    }
    // Out of range is said of overflow and of underflow alike; the size of the number tells which.
    *value = *text == '-' ? Real(-0.0) : Real(0);
    return magnitude(text, got.ptr - text) < 0 ? got.ptr : nullptr;
}

} // namespace

size_t number_print_any_f32(float value, char out[NUMBER_MAX_TEXT])
{
    return print(value, out);
}

size_t number_print_f64(double value, char out[NUMBER_MAX_TEXT])
{
    return print(value, out);
}

const char *number_take_any_f32(const char *text, const char *end, float *value)
{
    return take(text, end, value);
}

const char *number_take_any_f64(const char *text, const char *end, double *value)
{
    return take(text, end, value);
}
