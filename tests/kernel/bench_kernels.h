/* bench_kernels.h: timing of the kernels, in the program that checks them. */
#ifndef ADAM_TEST_BENCH_KERNELS_H
#define ADAM_TEST_BENCH_KERNELS_H

/* Prints ns per element of every kernel that the processor runs, next to the scalar one. Asserts
 * nothing. */
void bench_kernels(void);

#endif
