// SPDX-License-Identifier: Apache-2.0
#include "train/rows.h"

#include "products/each.h"

#define ITEM_NUMBERS 16384u // numbers of an item: far more than claiming one costs
#define COLUMNS      16u    // of an item of a sum over rows: one cache line of floats

static size_t at_once(size_t n)
{
    return n >= ITEM_NUMBERS ? 1 : ITEM_NUMBERS / n;
}

// ---- norms ------------------------------------------------------------------------------------

typedef struct norm_job {
    const facet_norm *norm;
    const facet_real *dy;
    facet_real *out;
    bool add;
} norm_job;

static facet_real inverse_rms(const facet_norm *norm, const facet_real *x)
{
    double sum = 0;
    for (size_t j = 0; j < norm->n; j++)
        sum += (double)x[j] * (double)x[j];
    return (facet_real)(1 / sqrt(sum / (double)norm->n + (double)norm->eps));
}

static void norm_row(const norm_job *job, size_t row)
{
    const facet_norm *norm = job->norm;
    const facet_real *x = norm->x + row * norm->n;
    facet_real *y = job->out + row * norm->n;
    const facet_real scale = inverse_rms(norm, x);
    for (size_t j = 0; j < norm->n; j++)
        y[j] = x[j] * scale * norm->gain[j];
}

// With s = 1 / rms: dx = s g dy - x s^3 / n sum(g dy x).
static void norm_back_row(const norm_job *job, size_t row)
{
    const facet_norm *norm = job->norm;
    const facet_real *x = norm->x + row * norm->n, *dy = job->dy + row * norm->n;
    facet_real *dx = job->out + row * norm->n;
    const facet_real scale = inverse_rms(norm, x);
    double dot = 0;
    for (size_t j = 0; j < norm->n; j++)
        dot += (double)(norm->gain[j] * dy[j]) * (double)x[j];
    const double cubed = (double)scale * (double)scale * (double)scale;
    const facet_real along = (facet_real)(dot * cubed / (double)norm->n);
    for (size_t j = 0; j < norm->n; j++) {
        const facet_real d = scale * norm->gain[j] * dy[j] - along * x[j];
        dx[j] = job->add ? dx[j] + d : d;
    }
}

static void inverse_row(const norm_job *job, size_t row)
{
    job->out[row] = inverse_rms(job->norm, job->norm->x + row * job->norm->n);
}

typedef struct each_row {
    void (*run)(const norm_job *job, size_t row);
    const norm_job *job;
} each_row;

static void row_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const each_row *each = ctx;
    const facet_norm *norm = each->job->norm;
    const size_t step = at_once(norm->n), first = item * step;
    for (size_t row = first; row < norm->rows && row < first + step; row++)
        each->run(each->job, row);
}

static void norm_each(facet_pool *pool, const norm_job *job,
                      void (*run)(const norm_job *job, size_t row))
{
    each_row each = {.run = run, .job = job};
    const size_t step = at_once(job->norm->n);
    facet_each(pool, (job->norm->rows + step - 1) / step, row_item, &each);
}

void facet_norm_run(facet_pool *pool, const facet_norm *norm, facet_real *y)
{
    norm_each(pool, &(norm_job){.norm = norm, .out = y}, norm_row);
}

void facet_norm_back(facet_pool *pool, const facet_norm *norm, const facet_real *dy, facet_real *dx,
                     bool add)
{
    norm_each(pool, &(norm_job){.norm = norm, .dy = dy, .out = dx, .add = add}, norm_back_row);
}

// ---- sums over rows ---------------------------------------------------------------------------

typedef struct columns_job {
    const facet_real *dy, *x, *inverse; // x and inverse: NULL for a bias
    size_t rows, n;
    facet_real *grad;
} columns_job;

static void columns_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const columns_job *job = ctx;
    const size_t first = item * COLUMNS;
    const size_t n = job->n - first < COLUMNS ? job->n - first : COLUMNS;
    double sums[COLUMNS] = {0};
    for (size_t row = 0; row < job->rows; row++) {
        const size_t at = row * job->n + first;
        for (size_t j = 0; j < n; j++) {
            const facet_real dy = job->dy[at + j];
            sums[j] +=
                job->x ? (double)dy * (double)(job->x[at + j] * job->inverse[row]) : (double)dy;
        }
    }
    for (size_t j = 0; j < n; j++)
        job->grad[first + j] += (facet_real)sums[j];
}

static void columns_run(facet_pool *pool, columns_job *job)
{
    facet_each(pool, (job->n + COLUMNS - 1) / COLUMNS, columns_item, job);
}

void facet_norm_gain_back(facet_pool *pool, const facet_norm *norm, const facet_real *dy,
                          facet_real *inverse, facet_real *grad)
{
    norm_each(pool, &(norm_job){.norm = norm, .out = inverse}, inverse_row);
    columns_run(pool, &(columns_job){dy, norm->x, inverse, norm->rows, norm->n, grad});
}

typedef struct bias_job {
    const facet_real *bias;
    facet_real *y;
    size_t rows, n;
} bias_job;

static void bias_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const bias_job *job = ctx;
    const size_t step = at_once(job->n), first = item * step;
    for (size_t row = first; row < job->rows && row < first + step; row++)
        for (size_t j = 0; j < job->n; j++)
            job->y[row * job->n + j] += job->bias[j];
}

void facet_bias_run(facet_pool *pool, const facet_real *bias, const size_t rows_n[2], facet_real *y)
{
    const size_t step = at_once(rows_n[1]);
    facet_each(pool, (rows_n[0] + step - 1) / step, bias_item,
               &(bias_job){bias, y, rows_n[0], rows_n[1]});
}

void facet_bias_back(facet_pool *pool, const facet_real *dy, const size_t rows_n[2],
                     facet_real *grad)
{
    columns_run(pool, &(columns_job){dy, NULL, NULL, rows_n[0], rows_n[1], grad});
}

// ---- gated activations ------------------------------------------------------------------------

// Both activations are x * sigmoid(w(x)): w(x) = x for SiLU; for GELU with the tanh approximation,
// since 1 + tanh(u) = 2 sigmoid(2 u), w(x) = 2 sqrt(2 / pi) (x + 0.044715 x^3). So w = x (a + b
// x^2).
typedef struct gate_curve {
    facet_real a, b;
} gate_curve;

static gate_curve curve_of(facet_gate_act act)
{
    const facet_real slope = FACET_REAL(1.5957691216057308);
    if (act == FACET_GATE_SILU) return (gate_curve){1, 0};
    return (gate_curve){slope, slope * FACET_REAL(0.044715)};
}

static inline facet_real sigmoid(facet_real x)
{
    return 1 / (1 + facet_real_exp(-x));
}

static void gated_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const facet_gated *job = ctx;
    const gate_curve c = curve_of(job->act);
    const size_t first = item * ITEM_NUMBERS;
    const size_t end = job->n - first < ITEM_NUMBERS ? job->n : first + ITEM_NUMBERS;
    const facet_real *gate = job->gate, *up = job->up;
    facet_real *z = job->z;
    for (size_t i = first; i < end; i++) {
        const facet_real x = gate[i];
        z[i] = x * sigmoid(x * (c.a + c.b * x * x)) * up[i];
    }
}

void facet_gated_run(facet_pool *pool, const facet_gated *gated)
{
    facet_gated job = *gated;
    facet_each(pool, (job.n + ITEM_NUMBERS - 1) / ITEM_NUMBERS, gated_item, &job);
}

static void gated_back_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const facet_gated *job = ctx;
    const gate_curve c = curve_of(job->act);
    const size_t first = item * ITEM_NUMBERS;
    const size_t end = job->n - first < ITEM_NUMBERS ? job->n : first + ITEM_NUMBERS;
    facet_real *restrict gate = job->gate, *restrict up = job->up, *restrict z = job->z;
    for (size_t i = first; i < end; i++) {
        const facet_real x = gate[i], u = up[i], dz = z[i];
        const facet_real s = sigmoid(x * (c.a + c.b * x * x));
        const facet_real slope = s + x * s * (1 - s) * (c.a + 3 * c.b * x * x);
        z[i] = x * s * u;
        up[i] = dz * x * s;
        gate[i] = dz * u * slope;
    }
}

void facet_gated_back(facet_pool *pool, const facet_gated *gated)
{
    facet_gated job = *gated;
    facet_each(pool, (job.n + ITEM_NUMBERS - 1) / ITEM_NUMBERS, gated_back_item, &job);
}
