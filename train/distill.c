// SPDX-License-Identifier: Apache-2.0
#include "train/distill.h"

#include "base/memory.h"
#include "base/random.h"
#include "train/adam.h"
#include "train/mean.h"
#include "train/step.h"

#define JUDGINGS       4u   // of a run, unless told otherwise
#define FIRST          8u   // judged after so small a part: a rate that is too high shows at once
#define CALMER         0.25 // of a rate that went wrong
#define MOST_SPOILED   3u   // times that numbers may not be finite
#define WARM_UP        20u  // one step in so many
#define AVERAGED       16u  // one step in so many is what counts in the mean,
#define AVERAGED_LEAST 8u   // but this many
#define RATE_FLOOR     0.05 // of the peak, at the end
#define ONE_IN         4u   // of so many tokens that the text lacks, one is in a step's loss

// Samples with what the dense model makes of them.
typedef struct course {
    const facet_samples *samples;
    float *teacher;   // (n_tokens, d_model) normed final states
    uint64_t *start;  // (n) first token of a sample
    uint32_t *order;  // (n) in which batches are filled
    uint32_t *prompt; // (n) tokens of a sample that dense reads
    size_t *place;    // (n) where they stand among those of all samples
    size_t n_prompts;
    float *keys, *values; // (n_layers, n_prompts, n_kv_heads * head_dim)
} course;

typedef struct distill {
    const facet_distill_data *data;
    const facet_distill_opts *opts;
    facet_pool *pool;
    facet_net *net;
    facet_step *step;
    facet_vocabulary *vocabulary; // of steps; judging takes all tokens
    facet_adam *adam;
    facet_mean *mean;  // of the values of late, which is what is judged
    uint32_t averaged; // steps that count in it
    course train, judge;
    uint32_t max_tokens; // of a batch
    uint32_t *tokens;    // (max_tokens) of the batch
    uint32_t *targets;   // (max_tokens)
    float *weights;      // (max_tokens)
    uint32_t *lengths;   // (max_tokens)
    float *teacher;      // (max_tokens, d_model)
    facet_prompts prompts;
    uint32_t *prompt; // (max_tokens) lengths of the batch's prompts
    size_t *place;    // (max_tokens)
    double best_loss;
    double peak;        // rate
    uint32_t n_spoiled; // steps and judgings whose numbers were not finite
    facet_distill_result result;
} distill;

// ---- courses --------------------------------------------------------------------------------

// Through the dense model: final states of all tokens, keys and values of prompts.
static facet_status dense_read(const distill *d, course *c, facet_err *err)
{
    const facet_model *model = d->data->model;
    const size_t row = (size_t)model->hp.n_kv_heads * model->hp.head_dim;
    const facet_stream_opts opts = {.precision = d->opts->precision,
                                    .n_threads = d->opts->n_threads,
                                    .alloc = d->opts->alloc,
                                    .report = d->opts->report};
    facet_stream *stream;
    facet_status status;
    FACET_TRY(facet_stream_new(model, c->samples, &opts, &stream, err));
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++) {
        const size_t at = layer * c->n_prompts * row;
        FACET_TRY_GOTO(c->n_prompts > 0
                           ? facet_stream_attn_keep(stream, c->keys + at, c->values + at, err)
                           : facet_stream_attn(stream, err),
                       done);
        FACET_TRY_GOTO(facet_stream_ffn(stream, NULL, NULL, err), done);
    }
    status = facet_stream_hidden(stream, c->teacher, err);
done:
    facet_stream_free(stream);
    return status;
}

static facet_status keys_new(course *c, const distill *d, facet_err *err)
{
    const facet_hparams *hp = &d->data->model->hp;
    const size_t row = (size_t)hp->n_kv_heads * hp->head_dim * sizeof(float);
    size_t n;
    if (c->n_prompts == 0) return FACET_OK;
    if (!facet_mul_size(c->n_prompts, hp->n_layers, &n)) return facet_fail_memory(err, SIZE_MAX);
    c->keys = facet_mem_new_aligned(d->opts->alloc, n, row);
    c->values = facet_mem_new_aligned(d->opts->alloc, n, row);
    return c->keys && c->values ? FACET_OK : facet_fail_memory(err, n * row);
}

static facet_status course_init(course *c, const distill *d, const facet_samples *samples,
                                facet_err *err)
{
    const facet_alloc *alloc = d->opts->alloc;
    const size_t row = (size_t)d->data->model->hp.d_model * sizeof(float);
    c->samples = samples;
    c->teacher = facet_mem_new_aligned(alloc, (size_t)samples->n_tokens, row);
    c->start = facet_mem_new(alloc, samples->n, sizeof *c->start);
    c->order = facet_mem_new(alloc, samples->n, sizeof *c->order);
    c->prompt = facet_mem_new(alloc, samples->n, sizeof *c->prompt);
    c->place = facet_mem_new(alloc, samples->n, sizeof *c->place);
    if (!c->teacher || !c->start || !c->order || !c->prompt || !c->place)
        return facet_fail_memory(err, (size_t)samples->n_tokens * row);
    uint64_t token = 0;
    for (uint32_t i = 0; i < samples->n; i++) {
        c->start[i] = token;
        c->order[i] = i;
        c->prompt[i] = d->data->dense_prompts ? facet_samples_prompt(samples, i) : 0;
        c->place[i] = c->n_prompts;
        c->n_prompts += c->prompt[i];
        token += samples->lengths[i];
    }
    FACET_TRY(keys_new(c, d, err));
    return dense_read(d, c, err);
}

static void course_fini(course *c, const facet_alloc *alloc)
{
    facet_mem_free_aligned(alloc, c->teacher);
    facet_mem_free(alloc, c->start);
    facet_mem_free(alloc, c->order);
    facet_mem_free(alloc, c->prompt);
    facet_mem_free(alloc, c->place);
    facet_mem_free_aligned(alloc, c->keys);
    facet_mem_free_aligned(alloc, c->values);
}

// The order of an epoch depends on the seed and the epoch only.
static void course_shuffle(course *c, uint64_t seed, uint32_t epoch)
{
    facet_random random = facet_random_seed(seed);
    random = facet_random_seed(facet_random_u64(&random) + epoch);
    for (uint32_t i = 0; i < c->samples->n; i++)
        c->order[i] = i;
    for (uint32_t i = c->samples->n; i > 1; i--) {
        const uint32_t j = (uint32_t)facet_random_below(&random, i), swap = c->order[j];
        c->order[j] = c->order[i - 1];
        c->order[i - 1] = swap;
    }
}

// Tokens of a sample that the net computes.
static uint32_t own_length(const course *c, uint32_t sample)
{
    return c->samples->lengths[sample] - c->prompt[sample];
}

// Where the batch that begins at place `first` of the order ends.
static uint32_t batch_end(const distill *d, const course *c, uint32_t first)
{
    uint64_t sum = 0;
    uint32_t end = first;
    for (; end < c->samples->n && end - first < d->max_tokens; end++) {
        sum += own_length(c, c->order[end]);
        if (end > first && sum > d->opts->batch_tokens) break;
    }
    return end;
}

// What the own tokens of a sample are to predict, and how much it counts. A family answers prompts:
// where the answer is known, what is predicted of the prompt only keeps it to the task's language.
static void sample_aims(const course *c, uint32_t sample, uint32_t *targets, float *weights)
{
    static const float prompt_weight = 0.125f;
    const facet_samples *s = c->samples;
    const uint32_t n = s->lengths[sample], answer = facet_samples_prompt(s, sample);
    for (uint32_t t = c->prompt[sample]; t < n; t++) {
        *targets++ = t + 1 < n ? s->tokens[c->start[sample] + t + 1] : FACET_NO_TARGET;
        *weights++ = t + 1 < answer ? prompt_weight : 1;
    }
}

static void sample_gather(const distill *d, const course *c, uint32_t sample, facet_batch *batch)
{
    const size_t width = d->data->model->hp.d_model, n = own_length(c, sample);
    const uint64_t from = c->start[sample] + c->prompt[sample];
    memcpy(d->tokens + batch->n_tokens, c->samples->tokens + from, n * sizeof *d->tokens);
    sample_aims(c, sample, d->targets + batch->n_tokens, d->weights + batch->n_tokens);
    memcpy(d->teacher + batch->n_tokens * width, c->teacher + from * width,
           n * width * sizeof *d->teacher);
    d->lengths[batch->n] = (uint32_t)n;
    d->prompt[batch->n] = c->prompt[sample];
    d->place[batch->n++] = c->place[sample];
    batch->n_tokens += (uint32_t)n;
}

static facet_batch batch_gather(distill *d, const course *c, uint32_t first, uint32_t end)
{
    facet_batch batch = {.tokens = d->tokens,
                         .lengths = d->lengths,
                         .targets = d->targets,
                         .teacher = d->teacher,
                         .weights = d->weights,
                         .text = (facet_real)d->opts->text};
    d->prompts = (facet_prompts){c->keys, c->values, c->n_prompts, d->prompt, d->place};
    if (c->n_prompts > 0) batch.prompts = &d->prompts;
    for (uint32_t i = first; i < end; i++)
        sample_gather(d, c, c->order[i], &batch);
    return batch;
}

// ---- judging ----------------------------------------------------------------------------------

static facet_status judge(distill *d, double *mean, facet_err *err)
{
    const course *c = &d->judge;
    double sum = 0, weight = 0;
    for (uint32_t first = 0, end; first < c->samples->n; first = end) {
        end = batch_end(d, c, first);
        FACET_TRY(
            facet_report_progress(d->opts->report, "distill: judge", first, c->samples->n, err));
        const facet_batch batch = batch_gather(d, c, first, end);
        double loss = 0;
        if (batch.n_tokens > 0) FACET_TRY(facet_step_run(d->step, &batch, &loss, err));
        sum += loss;
        for (uint32_t t = 0; t < batch.n_tokens; t++)
            weight += (double)batch.weights[t];
    }
    *mean = sum / weight;
    return FACET_OK;
}

// The caller's place of a trained parameter, where the values stay that judged best.
static float *place_of(const distill *d, const facet_param *param)
{
    const facet_distill_layer *layer = &d->data->layers[param->layer];
    if (param->role == FACET_ROLE_DOWN) return layer->down;
    if (param->role == FACET_PARAM_DOWN_BIAS) return layer->bias;
    return facet_vectors_get(d->data->own, param->role, param->layer).data;
}

// Copies the trained values to their places, or back.
static void best_copy(const distill *d, bool back)
{
    for (uint32_t i = 0; i < d->net->n_params; i++) {
        const facet_param *param = &d->net->params[i];
        if (!param->grad) continue;
        float *best = place_of(d, param);
        memcpy(back ? param->value : best, back ? best : param->value,
               facet_param_size(param) * sizeof *best);
    }
}

// A model that gives no numbers at any rate.
static bool ended(const distill *d)
{
    return d->n_spoiled == MOST_SPOILED;
}

// Back to the best values, more slowly from there.
static void best_return(distill *d)
{
    best_copy(d, true);
    facet_adam_restart(d->adam);
    facet_mean_restart(d->mean);
    d->peak *= CALMER;
}

// What came of a step or a judging. Numbers that are not finite are a rate that is too high; of
// anything else the caller hears.
static facet_status spoiled_or_fail(distill *d, facet_status status, const facet_err *why,
                                    bool *spoiled, facet_err *err)
{
    *spoiled = status == FACET_FAILED;
    if (!*spoiled) {
        if (status != FACET_OK && err) *err = *why;
        return status;
    }
    best_return(d);
    d->n_spoiled++;
    facet_report_log(d->opts->report, FACET_LOG_WARN,
                     "distill: loss or gradient is not finite at step %u; %s",
                     (unsigned)d->result.steps,
                     ended(d) ? "the best so far is kept" : "back to the best, at a lower rate");
    return FACET_OK;
}

static facet_status judge_again(distill *d, uint32_t n_steps, facet_err *err)
{
    double loss;
    facet_err why;
    bool spoiled;
    facet_mean_swap(d->mean);
    FACET_TRY(spoiled_or_fail(d, judge(d, &loss, &why), &why, &spoiled, err));
    if (spoiled) return FACET_OK;
    facet_report_log(d->opts->report, FACET_LOG_INFO,
                     "distill: step %u of %u, rate %.3g, loss %.4f (%.4f before)",
                     (unsigned)d->result.steps, (unsigned)n_steps, d->peak, loss, d->result.before);
    if (loss >= d->best_loss) {
        best_return(d);
        return FACET_OK;
    }
    d->best_loss = loss;
    d->result.best_step = d->result.steps;
    best_copy(d, false);
    facet_mean_swap(d->mean);
    return FACET_OK;
}

// ---- training ---------------------------------------------------------------------------------

static uint32_t steps_count(distill *d)
{
    uint64_t n = 0;
    for (uint32_t epoch = 0; epoch < d->opts->epochs; epoch++) {
        course_shuffle(&d->train, d->opts->seed, epoch);
        for (uint32_t first = 0; first < d->train.samples->n; n++)
            first = batch_end(d, &d->train, first);
    }
    if (d->opts->max_steps && n > d->opts->max_steps) n = d->opts->max_steps;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

// One step, and the mean with it. When the numbers went wrong in it, the values have not felt it.
static facet_status train_step(distill *d, const facet_batch *batch, double rate, bool *spoiled,
                               facet_err *err)
{
    double loss;
    facet_err why;
    facet_net_zero(d->net);
    facet_status status = facet_step_run(d->step, batch, &loss, &why);
    if (status == FACET_OK && !isfinite(facet_adam_step(d->adam, rate))) status = FACET_FAILED;
    FACET_TRY(spoiled_or_fail(d, status, &why, spoiled, err));
    if (!*spoiled) facet_mean_add(d->mean, d->averaged);
    d->result.steps++;
    d->result.tokens += batch->n_tokens;
    return FACET_OK;
}

// Is it time to judge, behind the steps so far?
static bool is_judged(const distill *d, uint32_t n_steps)
{
    const uint32_t step = d->result.steps, given = d->opts->judge_every;
    const uint32_t every = given ? given : (n_steps + JUDGINGS - 1) / JUDGINGS;
    return step == n_steps || step % every == 0 ||
           (!given && step == (n_steps + FIRST - 1) / FIRST);
}

static facet_status train(distill *d, facet_err *err)
{
    const uint32_t n_steps = steps_count(d), part = n_steps / AVERAGED;
    d->averaged = part > AVERAGED_LEAST ? part : AVERAGED_LEAST;
    facet_schedule schedule = {.floor = RATE_FLOOR, .warm_up = n_steps / WARM_UP, .steps = n_steps};
    d->peak = d->opts->rate;
    for (uint32_t epoch = 0; epoch < d->opts->epochs; epoch++) {
        course_shuffle(&d->train, d->opts->seed, epoch);
        for (uint32_t first = 0, end; first < d->train.samples->n; first = end) {
            end = batch_end(d, &d->train, first);
            facet_batch batch = batch_gather(d, &d->train, first, end);
            if (d->result.steps == n_steps) return FACET_OK;
            if (batch.n_tokens == 0) continue;
            FACET_TRY(
                facet_report_progress(d->opts->report, "distill", d->result.steps, n_steps, err));
            // A last, smaller batch weighs as little as it is small.
            batch.scale = 1.0f / (float)d->opts->batch_tokens;
            batch.backward = true;
            batch.vocabulary = d->vocabulary;
            schedule.peak = d->peak;
            const double rate = facet_schedule_rate(&schedule, d->result.steps);
            bool spoiled;
            FACET_TRY(train_step(d, &batch, rate, &spoiled, err));
            if (!spoiled && is_judged(d, n_steps)) FACET_TRY(judge_again(d, n_steps, err));
            if (ended(d)) return FACET_OK;
        }
    }
    return FACET_OK;
}

// ---- life -------------------------------------------------------------------------------------

static facet_status net_init(distill *d, facet_err *err)
{
    const uint32_t n_layers = d->data->model->hp.n_layers;
    facet_ffn_custom *custom = facet_mem_new(d->opts->alloc, n_layers, sizeof *custom);
    if (!custom) return facet_fail_memory(err, n_layers * sizeof *custom);
    for (uint32_t i = 0; i < n_layers; i++) {
        const facet_distill_layer *layer = &d->data->layers[i];
        custom[i] = (facet_ffn_custom){layer->kept, layer->n_kept, layer->down, layer->bias};
    }
    const facet_vectors *own = d->data->own;
    const facet_net_opts opts = {.custom = custom,
                                 .precision = d->opts->precision,
                                 .vectors = own,
                                 .train = FACET_PARAM_DOWN_BOTH | (own ? own->roles : 0),
                                 .pool = d->pool,
                                 .alloc = d->opts->alloc};
    const facet_status status = facet_net_new(d->data->model, &opts, &d->net, err);
    facet_mem_free(d->opts->alloc, custom);
    return status;
}

static facet_status buffers_init(distill *d, facet_err *err)
{
    const facet_alloc *alloc = d->opts->alloc;
    const facet_samples *both[] = {d->data->train, d->data->judge};
    uint32_t longest = 1;
    for (int i = 0; i < 2; i++)
        for (uint32_t s = 0; s < both[i]->n; s++)
            if (both[i]->lengths[s] > longest) longest = both[i]->lengths[s];
    d->max_tokens = longest > d->opts->batch_tokens ? longest : d->opts->batch_tokens;
    const size_t n = d->max_tokens, row = (size_t)d->data->model->hp.d_model * sizeof(float);
    d->tokens = facet_mem_new(alloc, n, sizeof *d->tokens);
    d->targets = facet_mem_new(alloc, n, sizeof *d->targets);
    d->weights = facet_mem_new(alloc, n, sizeof *d->weights);
    d->lengths = facet_mem_new(alloc, n, sizeof *d->lengths);
    d->prompt = facet_mem_new(alloc, n, sizeof *d->prompt);
    d->place = facet_mem_new(alloc, n, sizeof *d->place);
    d->teacher = facet_mem_new_aligned(alloc, n, row);
    if (!d->tokens || !d->targets || !d->weights || !d->lengths || !d->prompt || !d->place ||
        !d->teacher)
        return facet_fail_memory(err, n * row);
    const facet_step_opts step = {.max_tokens = d->max_tokens,
                                  .longest = longest,
                                  .distill = true,
                                  .pool = d->pool,
                                  .alloc = alloc};
    facet_adam_opts adam = FACET_ADAM_OPTS_DEFAULT;
    adam.relative = true;
    adam.pool = d->pool;
    adam.alloc = alloc;
    FACET_TRY(facet_mean_new(d->net, d->pool, alloc, &d->mean, err));
    FACET_TRY(facet_step_new(d->net, &step, &d->step, err));
    return facet_adam_new(d->net, &adam, &d->adam, err);
}

static facet_status distill_run(distill *d, facet_err *err)
{
    const uint32_t n_threads = d->opts->n_threads ? d->opts->n_threads : facet_cores();
    if (d->opts->batch_tokens == 0 || !(d->opts->rate >= 0) || !isfinite(d->opts->rate) ||
        !(d->opts->text >= 0 && d->opts->text <= 1))
        return facet_fail(err, FACET_BAD_INPUT,
                          "distill: batches of %u tokens, a rate of %g and a share of the text of "
                          "%g make no training; give positive numbers, the share at most 1",
                          (unsigned)d->opts->batch_tokens, d->opts->rate, d->opts->text);
    FACET_TRY(course_init(&d->train, d, d->data->train, err));
    FACET_TRY(course_init(&d->judge, d, d->data->judge, err));
    FACET_TRY(facet_pool_new(n_threads, d->opts->alloc, &d->pool, err));
    FACET_TRY(net_init(d, err));
    FACET_TRY(buffers_init(d, err));
    FACET_TRY(facet_vocabulary_new(d->net, d->data->train, ONE_IN, d->opts->seed, d->opts->alloc,
                                   &d->vocabulary, err));
    FACET_TRY(judge(d, &d->result.before, err));
    d->best_loss = d->result.before;
    FACET_TRY(train(d, err));
    d->result.after = d->best_loss;
    d->result.rate = d->peak;
    return FACET_OK;
}

facet_status facet_distill(const facet_distill_data *data, const facet_distill_opts *opts,
                           facet_distill_result *result, facet_err *err)
{
    distill d = {.data = data, .opts = opts};
    const facet_status status = distill_run(&d, err);
    facet_adam_free(d.adam);
    facet_mean_free(d.mean);
    facet_step_free(d.step);
    facet_vocabulary_free(d.vocabulary);
    facet_net_free(d.net);
    facet_pool_free(d.pool);
    course_fini(&d.train, opts->alloc);
    course_fini(&d.judge, opts->alloc);
    facet_mem_free(opts->alloc, d.tokens);
    facet_mem_free(opts->alloc, d.targets);
    facet_mem_free(opts->alloc, d.weights);
    facet_mem_free(opts->alloc, d.lengths);
    facet_mem_free(opts->alloc, d.prompt);
    facet_mem_free(opts->alloc, d.place);
    facet_mem_free_aligned(opts->alloc, d.teacher);
    if (status == FACET_OK && result) *result = d.result;
    return status;
}
