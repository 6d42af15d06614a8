// SPDX-License-Identifier: Apache-2.0
// The head and the loss. The logits of all tokens do not fit in memory, so scored tokens come in
// chunks, and a chunk's loss and the gradients it gives are done before the next one's logits:
//
//     states of student (and teacher, below them) --one product--> logits      tiles of vocabulary
//     logits --softmax, loss--> gradient of the student's logits               rows
//     gradient --head--> gradient of the states, head                          parts of vocabulary
//
// Exponentials are vector code only where no sum is carried from one to the next: sums run in LANES
// interleaved parts over stretches that floats can add up, and on in doubles.
#include "products/each.h"
#include "train/step_private.h"

#define LANES   16u
#define STRETCH 1024u

typedef struct chunk {
    facet_step *step;
    const facet_param *head;
    const facet_real *stands; // (rows of the head) added to its logits, or NULL
    uint32_t most, segments;  // tokens of a chunk; parts of the head
    uint32_t n;               // tokens of this one
    const uint32_t *tokens;   // (n) of the batch
} chunk;

static facet_real row_max(const facet_real *x, size_t n)
{
    facet_real most[LANES], max = x[0];
    size_t i = 0;
    for (size_t j = 0; j < LANES; j++)
        most[j] = x[0];
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t j = 0; j < LANES; j++)
        max = most[j] > max ? most[j] : max;
    return max;
}

static double lanes_sum(const facet_real *lanes)
{
    double sum = 0;
    for (size_t j = 0; j < LANES; j++)
        sum += (double)lanes[j];
    return sum;
}

// x becomes e^(x - max); the sum of it.
static double row_exp(facet_real *x, size_t n, facet_real max)
{
    double sum = 0;
    size_t i = 0;
    while (i + LANES <= n) {
        facet_real part[LANES] = {0};
        for (const size_t stop = i + STRETCH; i + LANES <= n && i < stop; i += LANES)
            for (size_t j = 0; j < LANES; j++) {
                const facet_real e = facet_real_exp(x[i + j] - max);
                x[i + j] = e;
                part[j] += e;
            }
        sum += lanes_sum(part);
    }
    for (; i < n; i++) {
        x[i] = facet_real_exp(x[i] - max);
        sum += (double)x[i];
    }
    return sum;
}

// A token's logits, both taken from their maximum.
typedef struct row_pair {
    facet_real *student, *teacher;
    facet_real max_student, max_teacher;
} row_pair;

// The teacher's become p = e^(t - max_t). *cross: sum of p (t - s); the sum of p is returned.
static double row_cross(const row_pair *row, size_t n, double *cross)
{
    const facet_real *s = row->student;
    facet_real *t = row->teacher;
    const facet_real ms = row->max_student, mt = row->max_teacher;
    double sum = 0, apart = 0;
    size_t i = 0;
    while (i + LANES <= n) {
        facet_real part[LANES] = {0}, part_apart[LANES] = {0};
        for (const size_t stop = i + STRETCH; i + LANES <= n && i < stop; i += LANES)
            for (size_t j = 0; j < LANES; j++) {
                const facet_real above = t[i + j] - mt, p = facet_real_exp(above);
                part[j] += p;
                part_apart[j] += p * (above - (s[i + j] - ms));
                t[i + j] = p;
            }
        sum += lanes_sum(part);
        apart += lanes_sum(part_apart);
    }
    for (; i < n; i++) {
        const facet_real above = t[i] - mt;
        t[i] = facet_real_exp(above);
        sum += (double)t[i];
        apart += (double)(t[i] * (above - (s[i] - ms)));
    }
    *cross = apart;
    return sum;
}

static facet_real weight_of(const facet_batch *batch, uint32_t token)
{
    return batch->weights ? batch->weights[token] : 1;
}

// Logits of a part of the vocabulary, if it is one and there are any.
static void row_stand(facet_real *x, const facet_real *stands, size_t n)
{
    for (size_t j = 0; x && stands && j < n; j++)
        x[j] += stands[j];
}

static void row_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const chunk *c = ctx;
    facet_step *step = c->step;
    const facet_batch *batch = step->batch;
    const size_t n = c->head->rows;
    const uint32_t token = c->tokens[item], next = facet_step_target(batch, token);
    const uint32_t target = next == FACET_NO_TARGET ? 0 : facet_step_place(batch, next);
    const facet_real text = next == FACET_NO_TARGET ? 0 : batch->teacher ? batch->text : 1;
    const facet_real weight = weight_of(batch, token);
    facet_real *s = step->head.logits + item * n;
    facet_real *t = batch->teacher ? s + (size_t)c->n * n : NULL;
    row_stand(s, c->stands, n);
    row_stand(t, c->stands, n);
    const row_pair row = {s, t, row_max(s, n), t ? row_max(t, n) : 0};
    // Of the target, less the logarithm of the sum over the vocabulary that both still lack.
    double cross = 0, apart = 0;
    if (text > 0) apart = (double)(row.max_student - s[target]);
    if (text > 0 && t) apart += (double)(t[target] - row.max_teacher);
    const double sum_t = t ? row_cross(&row, n, &cross) : 1;
    const double sum_s = row_exp(s, n, row.max_student);
    const double share = (double)text, loss = (1 - share) * cross / sum_t + share * apart;
    step->head.losses[item] = (double)weight * (loss - log(sum_t) + log(sum_s));
    if (!batch->backward) return;
    const facet_real scale = weight * batch->scale;
    const facet_real by_s = scale / (facet_real)sum_s;
    const facet_real by_t = (1 - text) * scale / (facet_real)sum_t;
    for (size_t j = 0; j < n; j++)
        s[j] = t ? s[j] * by_s - t[j] * by_t : s[j] * by_s;
    if (text > 0) s[target] -= text * scale;
}

// Gradient of the states: parts of the vocabulary side by side, then their sum, part by part.
static void states_item(void *ctx, uint32_t thread, uint64_t item)
{
    (void)thread;
    const chunk *c = ctx;
    const facet_step_head *head = &c->step->head;
    const size_t d = c->head->cols;
    facet_real *to = c->step->branch + c->tokens[item] * d;
    memset(to, 0, d * sizeof *to);
    for (uint32_t s = 0; s < c->segments; s++) {
        const facet_real *part = head->partial + ((size_t)s * c->most + item) * d;
        for (size_t j = 0; j < d; j++)
            to[j] += part[j];
    }
}

static void states_back(const chunk *c)
{
    facet_step *step = c->step;
    const facet_step_head *head = &step->head;
    const size_t d = c->head->cols, n_vocab = c->head->rows;
    const size_t segment = (n_vocab + c->segments - 1) / c->segments;
    for (uint32_t s = 0; s < c->segments; s++) {
        const size_t first = s * segment < n_vocab ? s * segment : n_vocab;
        head->products[s] =
            (facet_product){.kind = FACET_PRODUCT_NN,
                            .m = c->n,
                            .n = d,
                            .k = n_vocab - first < segment ? n_vocab - first : segment,
                            .alpha = 1,
                            .a = head->logits + first,
                            .b = c->head->value ? c->head->value + first * d : NULL,
                            .b_rounded = c->head->rounded ? c->head->rounded + first * d : NULL,
                            .c = head->partial + (size_t)s * c->most * d,
                            .stride_a = n_vocab,
                            .stride_b = d,
                            .stride_c = d};
    }
    facet_step_products(step, head->products, c->segments);
    chunk job = *c;
    facet_each(step->opts.pool, c->n, states_item, &job);
}

static void states_gather(const chunk *c)
{
    const facet_step *step = c->step;
    const size_t d = c->head->cols;
    for (uint32_t r = 0; r < c->n; r++) {
        facet_real *to = step->head.states + r * d;
        memcpy(to, step->hidden + c->tokens[r] * d, d * sizeof *to);
        if (step->batch->teacher)
            memcpy(to + c->n * d, step->batch->teacher + c->tokens[r] * d, d * sizeof *to);
    }
}

static double chunk_run(chunk *c)
{
    facet_step *step = c->step;
    const size_t d = c->head->cols, n_vocab = c->head->rows;
    const size_t both = (step->batch->teacher ? 2 : 1) * (size_t)c->n;
    states_gather(c);
    const facet_product logits = facet_step_by(FACET_PRODUCT_NT, (const size_t[]){both, n_vocab, d},
                                               step->head.states, c->head, step->head.logits);
    facet_step_products(step, &logits, 1);
    facet_each(step->opts.pool, c->n, row_item, c);
    double loss = 0;
    for (uint32_t r = 0; r < c->n; r++)
        loss += step->head.losses[r];
    if (!step->batch->backward) return loss;
    if (facet_step_flows(step, facet_step_stages(step)) ||
        facet_net_trains(step->net, FACET_ROLE_OUT_NORM, 0))
        states_back(c);
    if (c->head->grad) {
        facet_product weight =
            facet_product_whole(FACET_PRODUCT_TN, (const size_t[]){n_vocab, d, c->n},
                                step->head.logits, step->head.states, c->head->grad);
        weight.add = true;
        facet_step_products(step, &weight, 1);
    }
    return loss;
}

// How the head's buffers are shared out: as many logits as of all of the vocabulary.
static chunk chunk_of(facet_step *step)
{
    const facet_step_head *head = &step->head;
    const facet_vocabulary *part = step->batch->vocabulary;
    chunk c = {.step = step,
               .head = facet_net_param(step->net, FACET_ROLE_HEAD, 0),
               .most = head->rows,
               .segments = head->segments};
    if (!part) return c;
    const size_t n_vocab = c.head->rows, n = part->head.rows;
    c.segments = (uint32_t)((n + FACET_STEP_SEGMENT - 1) / FACET_STEP_SEGMENT);
    size_t most = c.most * n_vocab / n;
    if (most > (size_t)c.most * head->segments / c.segments)
        most = (size_t)c.most * head->segments / c.segments;
    c.most = most < step->opts.max_tokens ? (uint32_t)most : step->opts.max_tokens;
    c.head = &part->head;
    c.stands = part->stands;
    return c;
}

double facet_step_head_run(facet_step *step)
{
    const facet_batch *batch = step->batch;
    facet_step_head *head = &step->head;
    uint32_t n = 0;
    for (uint32_t t = 0; t < batch->n_tokens; t++)
        if (weight_of(batch, t) != 0) head->scored[n++] = t;
    if (batch->backward)
        memset(step->branch, 0,
               (size_t)batch->n_tokens * step->net->hp.d_model * sizeof *step->branch);
    double loss = 0;
    chunk c = chunk_of(step);
    for (uint32_t first = 0; first < n; first += c.most) {
        c.n = n - first < c.most ? n - first : c.most;
        c.tokens = head->scored + first;
        loss += chunk_run(&c);
    }
    return loss;
}
