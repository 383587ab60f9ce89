/* adam.h: the whole public interface of the optimizer core. */
#ifndef ADAM_ADAM_H
#define ADAM_ADAM_H

#include "adam/gather.h"    // IWYU pragma: export
#include "adam/optimizer.h" // IWYU pragma: export
#include "adam/pool.h"      // IWYU pragma: export
#include "adam/reduce.h"    // IWYU pragma: export
#include "adam/schedule.h"  // IWYU pragma: export
#include "adam/status.h"    // IWYU pragma: export
#include "adam/tensor.h"    // IWYU pragma: export

#endif
