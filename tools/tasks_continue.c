// SPDX-License-Identifier: Apache-2.0
// Continuations of samples, many side by side. The partial file has them in the order of the
// samples, so what an earlier run has left is that of the first open ones.
#include <string.h>

#include "base/random.h"
#include "tools/batch.h"
#include "tools/tasks.h"

typedef struct continuation {
    facet_tasks *tasks;
    facet_partial *partial;
    facet_tokens *prompts;   // (n) borrowed from samples
    facet_sampler *samplers; // (n)
    size_t *samples;         // (n) which ones
    size_t n;
} continuation;

static facet_status lengthen(facet_task_sample *sample, uint32_t n, facet_err *err)
{
    uint32_t *ids = facet_mem_resize(NULL, sample->ids, (size_t)sample->n + n, sizeof *ids);
    if (ids == NULL) return facet_fail_memory(err, ((size_t)sample->n + n) * sizeof *ids);
    sample->ids = ids;
    return FACET_OK;
}

// Lengthens samples by the records there are; *first is the first open sample without one.
static facet_status recall(facet_tasks *tasks, uint32_t n, facet_partial *partial, size_t *first,
                           facet_err *err)
{
    for (*first = 0; *first < tasks->n; ++*first) {
        facet_task_sample *sample = &tasks->items[*first];
        size_t bytes;
        if (!sample->open) continue;
        FACET_TRY(lengthen(sample, n, err));
        if (!facet_partial_take(partial, sample->ids + sample->n, sizeof *sample->ids,
                                n * sizeof *sample->ids, &bytes))
            return FACET_OK;
        sample->n += (uint32_t)(bytes / sizeof *sample->ids);
    }
    return FACET_OK;
}

// Each answer has a state of its own, so that it does not depend on which others there are to make.
static facet_sampler sampler_of(const facet_continue_opts *opts, size_t i, uint32_t drawn)
{
    if (drawn == 0) return (facet_sampler){0};
    facet_random random = facet_random_seed(opts->seed);
    random = facet_random_seed(facet_random_u64(&random) + i);
    return (facet_sampler){.temperature = (float)opts->temperature,
                           .state = facet_random_u64(&random)};
}

static facet_status list_prompts(continuation *c, const facet_continue_opts *opts, size_t first,
                                 facet_err *err)
{
    const size_t most = c->tasks->n - first;
    c->prompts = facet_mem_new(NULL, most, sizeof *c->prompts);
    c->samplers = facet_mem_new(NULL, most, sizeof *c->samplers);
    c->samples = facet_mem_new(NULL, most, sizeof *c->samples);
    if (c->prompts == NULL || c->samplers == NULL || c->samples == NULL)
        return facet_fail_memory(err, most * sizeof *c->prompts);
    for (size_t i = first; i < c->tasks->n; i++) {
        const facet_task_sample *sample = &c->tasks->items[i];
        if (!sample->open) continue;
        c->prompts[c->n] = (facet_tokens){sample->ids, sample->n};
        c->samplers[c->n] = sampler_of(opts, i, sample->drawn);
        c->samples[c->n++] = i;
    }
    return FACET_OK;
}

static facet_status keep(void *ctx, size_t i, const facet_generated *made, facet_err *err)
{
    const continuation *c = ctx;
    facet_task_sample *sample = &c->tasks->items[c->samples[i]];
    FACET_TRY(lengthen(sample, made->n_ids, err));
    memcpy(sample->ids + sample->n, made->ids, made->n_ids * sizeof *made->ids);
    sample->n += made->n_ids;
    facet_partial_put(c->partial, made->ids, made->n_ids * sizeof *made->ids);
    return FACET_OK;
}

facet_status facet_tasks_continue(facet_tasks *tasks, facet_bundle *bundle,
                                  const facet_continue_opts *asked, const facet_report *report,
                                  facet_partial *partial, facet_err *err)
{
    continuation c = {.tasks = tasks, .partial = partial};
    size_t first, longest = 0;
    FACET_TRY(recall(tasks, asked->n, partial, &first, err));
    facet_status status = list_prompts(&c, asked, first, err);
    for (size_t i = 0; i < c.n; i++)
        if (c.prompts[i].count > longest) longest = c.prompts[i].count;
    const facet_batch_opts opts = {
        .family = "dense",
        .prompts = c.prompts,
        .n_prompts = c.n,
        .samplers = c.samplers,
        .n_max = asked->n,
        .n_ctx = (uint32_t)longest + asked->n,
        .n_sequences = FACET_BATCH_DEFAULT,
        .what = "continue",
        .fn = keep,
        .ctx = &c,
    };
    if (status == FACET_OK && c.n > 0) status = facet_batch_answer(bundle, &opts, report, err);
    facet_mem_free(NULL, c.prompts);
    facet_mem_free(NULL, c.samplers);
    facet_mem_free(NULL, c.samples);
    return status;
}
