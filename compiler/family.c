// SPDX-License-Identifier: Apache-2.0
//     mask set -> groups (labels, or k-means over similarities) -> names -> held-out split
//              -> scores of a family (mean of its calibrating members) -> mask
#include "compiler/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/memory.h"
#include "compiler/family_documents.h"
#include "compiler/family_gram.h"
#include "compiler/family_kmeans.h"
#include "compiler/select.h"

enum { max_samples = 20000, restarts = 6, name_bytes = 48 };
static const double default_keep = 0.5;
// A grouping into several families must be better than none by this much mean silhouette. Prompts
// of one task cluster at about 0.01 when cut in two; different tasks at 0.05 and more.
static const double least_silhouette = 0.03;

typedef struct work {
    const facet_mask_set *set;
    const facet_family_opts *opts;
    double keep;
    uint32_t n_families;
    uint32_t *assign, *trial;    // (n)
    float *similarity, *overlap; // (n, n)
    uint8_t *masks;              // (n, n_layers, bytes)
    facet_family_curve curve;
} work;

static void work_fini(work *w)
{
    const facet_alloc *alloc = w->opts->alloc;
    facet_mem_free(alloc, w->assign);
    facet_mem_free(alloc, w->trial);
    facet_mem_free(alloc, w->similarity);
    facet_mem_free(alloc, w->overlap);
    facet_mem_free(alloc, w->masks);
}

static facet_status check(const facet_mask_set *set, const facet_family_opts *opts, double *keep,
                          facet_err *err)
{
    if (set->n == 0)
        return facet_fail(err, FACET_BAD_INPUT,
                          "mask set: it has no samples; give task files with prompts in them");
    if (set->n > max_samples)
        return facet_fail(err, FACET_BAD_INPUT, "mask set: %u samples are too many; %u at most",
                          set->n, (unsigned)max_samples);
    if (!set->scores && !set->mask)
        return facet_fail(err, FACET_BAD_INPUT, "mask set: it has neither scores nor masks");
    if (opts->grouping == FACET_GROUP_LABEL && !set->labels)
        return facet_fail(err, FACET_BAD_INPUT,
                          "mask set: it has no labels to group by; use --families auto or a count");
    if (opts->grouping == FACET_GROUP_FIXED && (opts->k == 0 || opts->k > set->n))
        return facet_fail(err, FACET_BAD_INPUT,
                          "%u families of %u samples: the count must be from 1 to the number of "
                          "samples",
                          opts->k, set->n);
    // Zero means: not given. NaN and the rest must be named.
    *keep = opts->keep > 0 || opts->keep < 0 || isnan(opts->keep) ? opts->keep
            : set->keep > 0                                       ? set->keep
                                                                  : default_keep;
    return facet_select_check(*keep, err);
}

static facet_status work_init(work *w, const facet_mask_set *set, const facet_family_opts *opts,
                              double keep, facet_err *err)
{
    *w = (work){.set = set, .opts = opts, .keep = keep};
    const size_t n = set->n;
    w->assign = facet_mem_new(opts->alloc, n, sizeof *w->assign);
    w->trial = facet_mem_new(opts->alloc, n, sizeof *w->trial);
    w->similarity = facet_mem_new(opts->alloc, n * n, sizeof *w->similarity);
    w->overlap = facet_mem_new(opts->alloc, n * n, sizeof *w->overlap);
    if (!w->assign || !w->trial || !w->similarity || !w->overlap)
        return facet_fail_memory(err, n * n * sizeof(float));
    FACET_TRY(facet_gram_similarity(set, opts->alloc, opts->report, w->similarity, err));
    FACET_TRY(facet_gram_make_masks(set, keep, opts->alloc, &w->masks, err));
    const facet_gram_masks masks = {w->masks, set->n, set->n_layers, set->d_ff};
    return facet_gram_overlap(&masks, opts->alloc, w->overlap, err);
}

static void pair_overlaps(const work *w, const uint32_t *assign, double *within, double *between)
{
    double sums[2] = {0, 0};
    uint64_t counts[2] = {0, 0};
    for (uint32_t i = 0; i < w->set->n; i++) {
        for (uint32_t j = 0; j < i; j++) {
            const int other = assign[i] != assign[j];
            sums[other] += (double)w->overlap[(size_t)i * w->set->n + j];
            counts[other]++;
        }
    }
    *within = counts[0] ? sums[0] / (double)counts[0] : NAN;
    *between = counts[1] ? sums[1] / (double)counts[1] : NAN;
}

// Adds a point for a grouping to the curve.
static facet_status add_point(work *w, const uint32_t *assign, uint32_t k, facet_err *err)
{
    facet_family_point *point = &w->curve.points[w->curve.n++];
    *point = (facet_family_point){.k = k};
    const facet_kmeans problem = {w->similarity, w->set->n, k, restarts, w->opts->seed};
    FACET_TRY(facet_kmeans_quality(&problem, assign, w->opts->alloc, &point->silhouette,
                                   &point->cohesion, err));
    pair_overlaps(w, assign, &point->within, &point->between);
    return FACET_OK;
}

static facet_status group_by_label(work *w, facet_err *err)
{
    const facet_mask_set *set = w->set;
    w->n_families = 0;
    for (uint32_t i = 0; i < set->n; i++) {
        uint32_t same = 0;
        while (same < i && strcmp(set->labels[same], set->labels[i]) != 0)
            same++;
        w->assign[i] = same < i ? w->assign[same] : w->n_families++;
    }
    return add_point(w, w->assign, w->n_families, err);
}

static facet_status group_fixed(work *w, facet_err *err)
{
    const facet_kmeans problem = {w->similarity, w->set->n, w->opts->k, restarts, w->opts->seed};
    FACET_TRY(facet_kmeans_run(&problem, w->opts->alloc, w->assign, err));
    w->n_families = w->opts->k;
    return add_point(w, w->assign, w->n_families, err);
}

static facet_status group_auto(work *w, facet_err *err)
{
    const uint32_t n = w->set->n;
    const uint32_t most = n / 2 < FACET_FAMILY_MAX_K ? n / 2 : FACET_FAMILY_MAX_K;
    w->n_families = 1;
    FACET_TRY(add_point(w, w->assign, 1, err));
    double best = least_silhouette;
    for (uint32_t k = 2; k <= most; k++) {
        const facet_kmeans problem = {w->similarity, n, k, restarts, w->opts->seed};
        FACET_TRY(facet_kmeans_run(&problem, w->opts->alloc, w->trial, err));
        FACET_TRY(add_point(w, w->trial, k, err));
        if (!(w->curve.points[k - 1].silhouette > best)) continue;
        best = w->curve.points[k - 1].silhouette;
        w->curve.chosen = k - 1;
        w->n_families = k;
        memcpy(w->assign, w->trial, n * sizeof *w->assign);
    }
    return FACET_OK;
}

// ---- the family set ----------------------------------------------------------------------------

// A name is also a file name and a word of the command line.
static void clean_name(const char *label, char out[name_bytes])
{
    size_t n = 0;
    for (; label[n] && n + 1 < name_bytes; n++) {
        const char c = label[n];
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '_' || c == '-' || (c == '.' && n > 0);
        out[n] = plain ? c : '-';
    }
    out[n] = 0;
    if (n == 0) snprintf(out, name_bytes, "family");
}

static bool name_taken(const facet_family_set *out, uint32_t n, const char *name)
{
    static const char *const reserved[] = {"dense", "auto", "all", "random"};
    for (size_t i = 0; i < FACET_COUNT_OF(reserved); i++)
        if (strcmp(name, reserved[i]) == 0) return true;
    for (uint32_t k = 0; k < n; k++)
        if (strcmp(name, out->names[k]) == 0) return true;
    return false;
}

// The label of most members, the earliest on a tie; NULL without labels.
static const char *majority(const work *w, uint32_t family)
{
    const facet_mask_set *set = w->set;
    const char *best = NULL;
    uint32_t most = 0;
    for (uint32_t i = 0; i < set->n && set->labels; i++) {
        if (w->assign[i] != family) continue;
        uint32_t count = 0;
        for (uint32_t j = 0; j < set->n; j++)
            count += w->assign[j] == family && strcmp(set->labels[i], set->labels[j]) == 0;
        if (count > most) {
            most = count;
            best = set->labels[i];
        }
    }
    return best;
}

static facet_status name_families(const work *w, facet_family_set *out, facet_err *err)
{
    for (uint32_t k = 0; k < out->n_families; k++) {
        const char *label = majority(w, k);
        char base[name_bytes], name[name_bytes + 16];
        clean_name(label ? label : "family", base);
        snprintf(name, sizeof name, label ? "%s" : "%s-1", base);
        for (uint32_t i = 2; name_taken(out, k, name); i++)
            snprintf(name, sizeof name, "%s-%u", base, i);
        out->names[k] = facet_mem_strdup(out->alloc, name);
        if (!out->names[k]) return facet_fail_memory(err, sizeof name);
    }
    return FACET_OK;
}

// A copy of what may be missing.
static facet_status copy_numbers(const uint32_t *from, size_t n, const facet_alloc *alloc,
                                 uint32_t **out, facet_err *err)
{
    if (!from) return FACET_OK;
    *out = facet_mem_new(alloc, n, sizeof *from);
    if (!*out) return facet_fail_memory(err, n * sizeof *from);
    memcpy(*out, from, n * sizeof *from);
    return FACET_OK;
}

static facet_status copy_samples(const facet_mask_set *set, facet_family_set *out, facet_err *err)
{
    const facet_samples *from = &set->samples;
    const facet_alloc *alloc = out->alloc;
    facet_samples *to = &out->samples;
    to->n = set->n;
    to->n_tokens = from->tokens ? from->n_tokens : 0;
    FACET_TRY(copy_numbers(from->documents, set->n, alloc, &to->documents, err));
    FACET_TRY(copy_numbers(from->tokens, from->n_tokens, alloc, &to->tokens, err));
    FACET_TRY(copy_numbers(from->lengths, set->n, alloc, &to->lengths, err));
    return copy_numbers(from->answers, set->n, alloc, &to->answers, err);
}

static facet_status set_init(const work *w, facet_family_set *out, facet_err *err)
{
    const facet_mask_set *set = w->set;
    const facet_alloc *alloc = w->opts->alloc;
    const size_t rows = (size_t)w->n_families * set->n_layers;
    *out = (facet_family_set){.alloc = alloc,
                              .n_families = w->n_families,
                              .n_layers = set->n_layers,
                              .d_ff = set->d_ff,
                              .keep = w->keep,
                              .silhouette = w->curve.points[w->curve.chosen].silhouette};
    out->names = facet_mem_new(alloc, w->n_families, sizeof *out->names);
    out->scores = facet_mem_new(alloc, rows, set->d_ff * sizeof *out->scores);
    out->mask = facet_mem_new(alloc, rows, facet_bits_bytes(set->d_ff));
    out->assign = facet_mem_new(alloc, set->n, sizeof *out->assign);
    out->held = facet_mem_new(alloc, set->n, 1);
    out->shape = facet_mem_strdup(alloc, set->shape ? set->shape : "");
    out->model = facet_mem_strdup(alloc, set->model ? set->model : "");
    if (!out->names || !out->scores || !out->mask || !out->assign || !out->held || !out->shape ||
        !out->model)
        return facet_fail_memory(err, rows * set->d_ff * sizeof *out->scores);
    memcpy(out->assign, w->assign, set->n * sizeof *out->assign);
    return FACET_OK;
}

// Every fifth document of a family; a family of one sample calibrates with it.
static facet_status hold_out(const work *w, facet_family_set *out, facet_err *err)
{
    const facet_alloc *alloc = w->opts->alloc;
    const uint32_t n = out->samples.n;
    uint32_t *list = facet_mem_new(alloc, n, sizeof *list), n_cut = 0, first_cut = 0;
    uint8_t *marks = facet_mem_new(alloc, n, 1);
    facet_status status = list && marks ? FACET_OK : facet_fail_memory(err, n * sizeof *list);
    for (uint32_t k = 0; k < out->n_families && status == FACET_OK; k++) {
        uint32_t members = 0;
        bool cut = false;
        for (uint32_t i = 0; i < n; i++)
            if (out->assign[i] == k) list[members++] = i;
        status = facet_documents_judge(&out->samples, list, members, alloc, marks, &cut, err);
        for (uint32_t i = 0; i < members && status == FACET_OK; i++)
            out->held[list[i]] = marks[i];
        if (cut && n_cut++ == 0) first_cut = k;
    }
    facet_mem_free(alloc, list);
    facet_mem_free(alloc, marks);
    if (n_cut > 0)
        facet_report_log(w->opts->report, FACET_LOG_WARN,
                         "%u of %u families (%s%s) have one document, so the last fifth of its "
                         "text is held out; give more files to hold out whole documents",
                         n_cut, out->n_families, out->names[first_cut], n_cut > 1 ? " ..." : "");
    return status;
}

// Scores of a family: the mean of its calibrating members' scores, each scaled to length 1 in every
// layer, so that a long prompt does not outvote the others.
static facet_status fill_scores(const work *w, facet_family_set *out, facet_err *err)
{
    const facet_alloc *alloc = w->opts->alloc;
    const uint32_t f = out->d_ff;
    facet_family_split *splits = facet_mem_new(alloc, out->n_families, sizeof *splits);
    float *row = facet_mem_new(alloc, f, sizeof *row);
    uint32_t *order = facet_mem_new(alloc, f, sizeof *order);
    facet_status status = FACET_OK;
    if (!splits || !row || !order) {
        status = facet_fail_memory(err, f * sizeof *row);
        goto done;
    }
    FACET_TRY_GOTO(facet_family_splits(out, alloc, splits, err), done);
    const uint32_t n_mask = facet_select_channels(f, w->keep);
    for (uint32_t k = 0; k < out->n_families; k++) {
        const facet_family_split *split = &splits[k];
        for (uint32_t layer = 0; layer < out->n_layers; layer++) {
            const size_t at = (size_t)k * out->n_layers + layer;
            float *scores = out->scores + at * f;
            for (uint32_t i = 0; i < split->n_calibrate; i++) {
                facet_gram_row(w->set, split->calibrate[i], layer, row);
                for (uint32_t j = 0; j < f; j++)
                    scores[j] += row[j] / (float)split->n_calibrate;
            }
            facet_select_top(scores, f, n_mask, order, out->mask + at * facet_bits_bytes(f));
        }
    }
done:
    for (uint32_t k = 0; splits && k < out->n_families; k++)
        facet_family_split_fini(&splits[k], alloc);
    facet_mem_free(alloc, splits);
    facet_mem_free(alloc, row);
    facet_mem_free(alloc, order);
    return status;
}

facet_status facet_family_cluster(const facet_mask_set *set, const facet_family_opts *opts,
                                  facet_family_set *out, facet_family_curve *curve, facet_err *err)
{
    double keep = 0;
    FACET_TRY(check(set, opts, &keep, err));
    work w;
    facet_family_set families = {0};
    facet_status status = work_init(&w, set, opts, keep, err);
    if (status != FACET_OK) goto done;
    static facet_status (*const group[])(work *, facet_err *) = {
        [FACET_GROUP_LABEL] = group_by_label,
        [FACET_GROUP_FIXED] = group_fixed,
        [FACET_GROUP_AUTO] = group_auto,
    };
    FACET_TRY_GOTO(group[opts->grouping](&w, err), done);
    FACET_TRY_GOTO(set_init(&w, &families, err), done);
    FACET_TRY_GOTO(copy_samples(set, &families, err), done);
    FACET_TRY_GOTO(name_families(&w, &families, err), done);
    FACET_TRY_GOTO(hold_out(&w, &families, err), done);
    FACET_TRY_GOTO(fill_scores(&w, &families, err), done);
    *out = families;
    families = (facet_family_set){0};
    if (curve) *curve = w.curve;
done:
    if (status != FACET_OK) facet_family_set_fini(&families);
    work_fini(&w);
    return status;
}
