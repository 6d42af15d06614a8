// SPDX-License-Identifier: Apache-2.0
#include "train/adam.h"

#include "base/memory.h"
#include "products/each.h"

#define BLOCK 65536u // numbers of an item

struct facet_adam {
    const facet_net *net;
    facet_adam_opts opts;
    uint32_t n_steps;
    double *scales;     // (n_params) what the rate is multiplied with
    facet_real *mean;   // (n_trained), parameter after parameter
    facet_real *square; // (n_trained)
    double *sums;       // (blocks of the largest parameter) sums of squares
};

static size_t blocks_of(const facet_param *param)
{
    return (facet_param_size(param) + BLOCK - 1) / BLOCK;
}

// ---- sums of squares, block by block, then in order -------------------------------------------

typedef struct square_job {
    const facet_real *values;
    size_t n;
    double *sums; // (blocks)
} square_job;

static void square_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const square_job *job = ctx;
    const size_t first = item * BLOCK, end = job->n - first < BLOCK ? job->n : first + BLOCK;
    double sum = 0;
    for (size_t i = first; i < end; i++)
        sum += (double)job->values[i] * (double)job->values[i];
    job->sums[item] = sum;
}

static double squares(const facet_adam *adam, const facet_param *param, const facet_real *values)
{
    square_job job = {.values = values, .n = facet_param_size(param), .sums = adam->sums};
    facet_each(adam->opts.pool, blocks_of(param), square_item, &job);
    double sum = 0;
    for (size_t i = 0; i < blocks_of(param); i++)
        sum += adam->sums[i];
    return sum;
}

// ---- life -------------------------------------------------------------------------------------

static double mean_square(const facet_adam *adam, const facet_param *param)
{
    const size_t n = facet_param_size(param);
    return n > 0 && param->value ? squares(adam, param, param->value) / (double)n : 0;
}

// The matrix that a bias of attention is added to, or FACET_PARAM_ROLES.
static uint32_t biased_role(uint32_t role)
{
    static const uint8_t pairs[][2] = {{FACET_ROLE_Q_BIAS, FACET_ROLE_Q},
                                       {FACET_ROLE_K_BIAS, FACET_ROLE_K},
                                       {FACET_ROLE_V_BIAS, FACET_ROLE_V}};
    for (size_t i = 0; i < FACET_COUNT_OF(pairs); i++)
        if (pairs[i][0] == role) return pairs[i][1];
    return FACET_PARAM_ROLES;
}

// A down bias counts as one more row of its projection, whose input is always 1. A bias of q, k or
// v counts as what it is added to: an output is a sum over normed inputs, each as large as its
// gain, times a weight. Its own size will not do: Qwen2 has biases of some hundreds in a few
// places, and a step that is small to them would drown all others.
static double scale_of(const facet_adam *adam, const facet_param *param)
{
    const facet_net *net = adam->net;
    if (!adam->opts.relative) return 1;
    if (param->role == FACET_PARAM_DOWN_BIAS)
        param = facet_net_param(net, FACET_ROLE_DOWN, param->layer);
    double mean = 0;
    const uint32_t biased = biased_role(param->role);
    if (biased < FACET_PARAM_ROLES) {
        const facet_param *gain = facet_net_param(net, FACET_ROLE_ATTN_NORM, param->layer);
        mean = mean_square(adam, facet_net_param(net, biased, param->layer)) *
               squares(adam, gain, gain->value);
    } else {
        mean = mean_square(adam, param);
    }
    return mean > 0 ? sqrt(mean) : 1;
}

static facet_status adam_build(facet_adam *adam, facet_err *err)
{
    const facet_alloc *alloc = adam->opts.alloc;
    const facet_net *net = adam->net;
    size_t most = 1;
    for (uint32_t i = 0; i < net->n_params; i++)
        if (blocks_of(&net->params[i]) > most) most = blocks_of(&net->params[i]);
    adam->scales = facet_mem_new(alloc, net->n_params, sizeof *adam->scales);
    adam->sums = facet_mem_new(alloc, most, sizeof *adam->sums);
    adam->mean = facet_mem_new_aligned(alloc, net->n_trained, sizeof *adam->mean);
    adam->square = facet_mem_new_aligned(alloc, net->n_trained, sizeof *adam->square);
    if (!adam->scales || !adam->sums || !adam->mean || !adam->square)
        return facet_fail_memory(err, net->n_trained * sizeof *adam->mean);
    for (uint32_t i = 0; i < net->n_params; i++)
        if (net->params[i].grad) adam->scales[i] = scale_of(adam, &net->params[i]);
    return FACET_OK;
}

facet_status facet_adam_new(const facet_net *net, const facet_adam_opts *opts, facet_adam **out,
                            facet_err *err)
{
    facet_adam *adam = facet_mem_new(opts->alloc, 1, sizeof *adam);
    if (!adam) return facet_fail_memory(err, sizeof *adam);
    adam->net = net;
    adam->opts = *opts;
    const facet_status status = adam_build(adam, err);
    if (status != FACET_OK) {
        facet_adam_free(adam);
        return status;
    }
    *out = adam;
    return FACET_OK;
}

void facet_adam_free(facet_adam *adam)
{
    if (!adam) return;
    const facet_alloc *alloc = adam->opts.alloc;
    facet_mem_free(alloc, adam->scales);
    facet_mem_free(alloc, adam->sums);
    facet_mem_free_aligned(alloc, adam->mean);
    facet_mem_free_aligned(alloc, adam->square);
    facet_mem_free(alloc, adam);
}

void facet_adam_restart(facet_adam *adam)
{
    adam->n_steps = 0;
    memset(adam->mean, 0, adam->net->n_trained * sizeof *adam->mean);
    memset(adam->square, 0, adam->net->n_trained * sizeof *adam->square);
}

// ---- a step -----------------------------------------------------------------------------------

// value = value * keep - rate * mean / (sqrt(square) * unbias + epsilon), with the bias correction
// of the first mean in `rate` and that of the second in `unbias`.
typedef struct update_job {
    facet_real *value, *mean, *square;
    const facet_real *grad;
    size_t n;
    facet_real clip, beta1, beta2, keep, rate, unbias, epsilon;
} update_job;

static void update_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const update_job u = *(const update_job *)ctx;
    const size_t first = item * BLOCK, end = u.n - first < BLOCK ? u.n : first + BLOCK;
    facet_real *restrict value = u.value, *restrict mean = u.mean, *restrict square = u.square;
    const facet_real *restrict grad = u.grad;
    for (size_t i = first; i < end; i++) {
        const facet_real g = grad[i] * u.clip;
        mean[i] = u.beta1 * mean[i] + (1 - u.beta1) * g;
        square[i] = u.beta2 * square[i] + (1 - u.beta2) * g * g;
#ifdef FACET_REAL_DOUBLE
        const facet_real root = sqrt(square[i]);
#else
        const facet_real root = sqrtf(square[i]);
#endif
        value[i] = value[i] * u.keep - u.rate * mean[i] / (root * u.unbias + u.epsilon);
    }
}

double facet_adam_step(facet_adam *adam, double rate)
{
    const facet_net *net = adam->net;
    const facet_adam_opts *opts = &adam->opts;
    double sum = 0;
    for (uint32_t i = 0; i < net->n_params; i++)
        if (net->params[i].grad) sum += squares(adam, &net->params[i], net->params[i].grad);
    const double length = sqrt(sum);
    if (!isfinite(length)) return length;
    adam->n_steps++;
    const double n = adam->n_steps;
    const double first = 1 - pow(opts->beta1, n), second = 1 - pow(opts->beta2, n);
    size_t at = 0;
    for (uint32_t i = 0; i < net->n_params; i++) {
        const facet_param *p = &net->params[i];
        if (!p->grad) continue;
        const double decay = p->rows > 1 ? rate * opts->decay : 0;
        update_job job = {
            .value = p->value,
            .mean = adam->mean + at,
            .square = adam->square + at,
            .grad = p->grad,
            .n = facet_param_size(p),
            .clip = (facet_real)(opts->clip > 0 && length > opts->clip ? opts->clip / length : 1),
            .beta1 = (facet_real)opts->beta1,
            .beta2 = (facet_real)opts->beta2,
            .keep = (facet_real)(1 - decay),
            .rate = (facet_real)(rate * adam->scales[i] / first),
            .unbias = (facet_real)(1 / sqrt(second)),
            .epsilon = (facet_real)opts->epsilon,
        };
        facet_each(opts->pool, blocks_of(p), update_item, &job);
        at += job.n;
    }
    return length;
}

double facet_schedule_rate(const facet_schedule *s, uint32_t step)
{
    const double pi = 3.141592653589793;
    if (step < s->warm_up) return s->peak * (step + 1.0) / s->warm_up;
    if (s->steps <= s->warm_up + 1) return s->peak;
    const double done = (double)(step - s->warm_up) / (double)(s->steps - 1 - s->warm_up);
    return s->peak * (s->floor + (1 - s->floor) * 0.5 * (1 + cos(pi * fmin(done, 1))));
}
