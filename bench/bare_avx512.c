/* bare_avx512.c: see bare_kernels.h. */
#define ADAM_KERNEL_WITHOUT_SUMS
#define adam_kernel_avx512 bare_kernel_avx512
#include "x86/kernel_avx512.c" // NOLINT(bugprone-suspicious-include): under another name

#define REAL    float
#define NAME(x) x##_f32
#define WIDTH   16
#include "traffic_body.h"

#define REAL    double
#define NAME(x) x##_f64
#define WIDTH   8
#include "traffic_body.h"

const adam_kernel traffic_kernel_avx512 = {
    .name = "avx512", .step_f32 = traffic_f32, .step_f64 = traffic_f64};
