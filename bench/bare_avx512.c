/* bare_avx512.c: the kernel without its sums, for stats.c. */
#define ADAM_KERNEL_WITHOUT_SUMS
#define adam_kernel_avx512 bare_kernel_avx512
#include "x86/kernel_avx512.c" // NOLINT(bugprone-suspicious-include): under another name
