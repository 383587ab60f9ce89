/* traffic_body.h: the memory traffic of a step without its arithmetic: as many streams in and out,
 * one addition each. Included behind x86/kernel_*.c, whose vectors it uses, with NAME(x), REAL and
 * WIDTH defined; undefines them. n is a multiple of WIDTH. */

static void NAME(traffic)(const adam_scalars *s, const adam_streams *t, size_t n, adam_sums *sums)
{
    const NAME(vec) more = NAME(set1)((REAL)s->eps);
    REAL *p = t->p;
    REAL *m = t->m;
    REAL *v = t->v;
    REAL *vmax = t->vmax;
    const REAL *grad = t->grad;
    (void)sums;
    for (size_t i = 0; i < n; i += WIDTH) {
        const NAME(vec) g = NAME(load)(grad + i);
        NAME(store)(p + i, NAME(add)(NAME(load)(p + i), g));
        NAME(store)(m + i, NAME(add)(NAME(load)(m + i), more));
        NAME(store)(v + i, NAME(add)(NAME(load)(v + i), more));
        if (vmax != NULL) {
            NAME(store)(vmax + i, NAME(add)(NAME(load)(vmax + i), more));
        }
    }
}

#undef REAL
#undef NAME
#undef WIDTH
