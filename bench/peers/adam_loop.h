/* adam_loop.h: Adam as a plain loop, which the compiler vectorises: what a server written by hand
 * would have. Knows nothing of bits or checks. */
#ifndef ADAM_LOOP_H
#define ADAM_LOOP_H

#include <cmath>
#include <cstddef>
#include <vector>

struct AdamLoop {
    explicit AdamLoop(std::size_t n) : param(n), exp_avg(n), exp_avg_sq(n) {}

    std::vector<float> param, exp_avg, exp_avg_sq;
    double bias1 = 1, bias2 = 1; /* beta to the power of the step */
};

inline void adam_loop_step(AdamLoop &s, const float *__restrict grad)
{
    constexpr float beta1 = 0.9F;
    constexpr float beta2 = 0.999F;
    constexpr float eps = 1e-8F;
    s.bias1 *= 0.9;
    s.bias2 *= 0.999;
    const float rate = static_cast<float>(1e-3 / (1 - s.bias1));
    const float root = static_cast<float>(1 / std::sqrt(1 - s.bias2));
    float *__restrict p = s.param.data();
    float *__restrict m = s.exp_avg.data();
    float *__restrict v = s.exp_avg_sq.data();
    const std::size_t n = s.param.size();
    for (std::size_t i = 0; i < n; i++) {
        m[i] = beta1 * m[i] + (1 - beta1) * grad[i];
        v[i] = beta2 * v[i] + (1 - beta2) * grad[i] * grad[i];
        p[i] -= rate * m[i] / (std::sqrt(v[i]) * root + eps);
    }
}

#endif
