/* reduce_body.h: adding up sources for one instruction set and type, over the vector operations
 * that kernel_body.h names. Included before it with the same macros, which it leaves defined. */

#define VECTORS ((size_t)4) /* whose sums stay in registers while the sources are read */
#define BLOCK   (VECTORS * WIDTH)

/* The vector at x, of which n elements are there; the rest reads as 0. */
static inline __attribute__((always_inline)) NAME(vec) NAME(load_some)(const char *x, size_t n)
{
    return n >= WIDTH ? NAME(load)(x) : n > 0 ? NAME(load_part)(x, n) : NAME(set1)((REAL)0);
}

static inline __attribute__((always_inline)) void NAME(store_some)(char *x, NAME(vec) a, size_t n)
{
    if (n >= WIDTH) {
        NAME(store)(x, a);
    } else if (n > 0) {
        NAME(store_part)(x, a, n);
    }
}

/* Elements of the j-th vector where a block has n. */
static inline __attribute__((always_inline)) size_t NAME(count)(size_t n, size_t j)
{
    return n > j * WIDTH ? n - j * WIDTH : 0;
}

/* Adds the terms to n sums, n <= BLOCK, `at` bytes behind where they begin. */
static inline __attribute__((always_inline)) void
NAME(reduce_block)(const adam_terms *t, const REAL *weight, char *sum, size_t at, size_t n)
{
    NAME(vec) s[VECTORS];
    NAME(vec) base[VECTORS];
#pragma GCC unroll 4
    for (size_t j = 0; j < VECTORS; j++) {
        const size_t there = at + j * sizeof s[0];
        s[j] = t->continues ? NAME(load_some)(sum + there, NAME(count)(n, j)) : NAME(set1)((REAL)0);
        base[j] = t->base != NULL
                      ? NAME(load_some)((const char *)t->base + there, NAME(count)(n, j))
                      : s[j];
    }
    for (size_t k = 0; k < t->n; k++) {
        const NAME(vec) w = NAME(set1)(weight[k]);
#pragma GCC unroll 4
        for (size_t j = 0; j < VECTORS; j++) {
            const char *x = (const char *)t->x[k] + at + j * sizeof s[0];
            NAME(vec) term = NAME(load_some)(x, NAME(count)(n, j));
            if (t->base != NULL) {
                term = NAME(sub)(base[j], term);
            }
            if (t->weighted) {
                term = NAME(mul)(w, term);
            }
            s[j] = k > 0 || t->continues ? NAME(add)(s[j], term) : term;
        }
    }
    const NAME(vec) divisor = NAME(set1)((REAL)t->divisor);
#pragma GCC unroll 4
    for (size_t j = 0; j < VECTORS; j++) {
        const NAME(vec) result = t->divides ? NAME(div)(s[j], divisor) : s[j];
        NAME(store_some)(sum + at + j * sizeof s[0], result, NAME(count)(n, j));
    }
}

static inline __attribute__((always_inline)) void NAME(reduce_all)(adam_terms t, const REAL *weight,
                                                                   char *sum, size_t n)
{
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        NAME(reduce_block)(&t, weight, sum, i * sizeof(REAL), BLOCK);
    }
    if (i < n) {
        NAME(reduce_block)(&t, weight, sum, i * sizeof(REAL), n - i);
    }
}

/* Each kind of term has a loop of its own. */
static void NAME(reduce)(const adam_terms *terms, void *sum, size_t n)
{
    adam_terms t = *terms;
    REAL weight[ADAM_KERNEL_TERMS];
    for (size_t k = 0; k < t.n; k++) {
        weight[k] = (REAL)t.weight[k];
    }
    if (t.base == NULL && !t.weighted) {
        t.base = NULL;
        t.weighted = false;
        NAME(reduce_all)(t, weight, sum, n);
    } else if (t.base == NULL) {
        t.base = NULL;
        t.weighted = true;
        NAME(reduce_all)(t, weight, sum, n);
    } else if (!t.weighted) {
        t.weighted = false;
        NAME(reduce_all)(t, weight, sum, n);
    } else {
        t.weighted = true;
        NAME(reduce_all)(t, weight, sum, n);
    }
}

#undef BLOCK
#undef VECTORS
