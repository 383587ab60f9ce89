/* bare_avx2.c: the kernel without its sums, for stats.c. */
#define ADAM_KERNEL_WITHOUT_SUMS
#define adam_kernel_avx2 bare_kernel_avx2
#include "x86/kernel_avx2.c" // NOLINT(bugprone-suspicious-include): under another name
