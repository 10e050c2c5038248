/* What bench_greedy.py measures the compiled greedy step against: the loop alone, in plain C with AVX-512.

   dots (n, m), correlations of the samples with the atoms, are used up; m is a multiple of 16. A step is one fused pass:
   subtract a times a row of the Gram matrix, take the running maximum, then find its place. */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>

void greedy_loop(float *dots, const float *gram, int64_t n, int64_t m, float half, int32_t *chosen, float *values,
                 int64_t *counts) {
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t sample = 0; sample < n; sample++) {
        float *dot = dots + sample * m;
        int64_t count = 0;
        __m512 best = _mm512_set1_ps(-INFINITY);
        for (int64_t i = 0; i < m; i += 16) best = _mm512_max_ps(best, _mm512_loadu_ps(dot + i));
        float top = _mm512_reduce_max_ps(best);
        while (count < m && top > half) {
            int64_t atom = 0;
            __mmask16 hit;
            while (!(hit = _mm512_cmpeq_ps_mask(_mm512_loadu_ps(dot + atom), _mm512_set1_ps(top)))) atom += 16;
            atom += __builtin_ctz(hit);
            float a = top - half;
            chosen[sample * m + count] = (int32_t)atom;
            values[sample * m + count] = a;
            count++;
            dot[atom] = -INFINITY;
            const float *row = gram + atom * m;
            best = _mm512_set1_ps(-INFINITY);
            for (int64_t i = 0; i < m; i += 16) {
                __m512 value = _mm512_fnmadd_ps(_mm512_set1_ps(a), _mm512_loadu_ps(row + i), _mm512_loadu_ps(dot + i));
                _mm512_storeu_ps(dot + i, value);
                best = _mm512_max_ps(best, value);
            }
            top = _mm512_reduce_max_ps(best);
        }
        counts[sample] = count;
    }
}
