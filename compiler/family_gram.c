// SPDX-License-Identifier: Apache-2.0
#include "compiler/family_gram.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "base/bits.h"
#include "compiler/select.h"

bool facet_gram_row(const facet_mask_set *set, uint32_t sample, uint32_t layer, float *row)
{
    const size_t at = (size_t)sample * set->n_layers + layer;
    const uint32_t f = set->d_ff;
    double sum = 0;
    if (set->scores) {
        const float *scores = set->scores + at * f;
        for (uint32_t j = 0; j < f; j++) {
            if (!(scores[j] >= 0.0f) || isinf(scores[j])) return false;
            sum += (double)scores[j] * (double)scores[j];
        }
        const double scale = sum > 0 ? 1.0 / sqrt(sum) : 0;
        for (uint32_t j = 0; j < f; j++)
            row[j] = (float)((double)scores[j] * scale);
        return true;
    }
    const uint8_t *bits = set->mask + at * facet_bits_bytes(f);
    const size_t kept = facet_bits_count(bits, f);
    const float value = kept > 0 ? (float)(1.0 / sqrt((double)kept)) : 0.0f;
    for (uint32_t j = 0; j < f; j++)
        row[j] = facet_bits_get(bits, j) ? value : 0.0f;
    return true;
}

// From mean cosines to cosines of what is left when the common mean is taken off (double centring):
// raw scores of any two prompts agree to nine tenths, and only the rest tells tasks apart.
static void centre(float *g, uint32_t n, double *means)
{
    double mean = 0;
    for (uint32_t i = 0; i < n; i++) {
        means[i] = 0;
        for (uint32_t j = 0; j < n; j++)
            means[i] += (double)g[(size_t)i * n + j];
        means[i] /= n;
        mean += means[i] / n;
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            g[(size_t)i * n + j] =
                (float)((double)g[(size_t)i * n + j] - means[i] - means[j] + mean);
    for (uint32_t i = 0; i < n; i++)
        means[i] = sqrt(fmax((double)g[(size_t)i * n + i], 0));
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < n; j++) {
            const double length = means[i] * means[j];
            float *value = &g[(size_t)i * n + j];
            *value = i == j ? 1.0f : length > 1e-9 ? (float)((double)*value / length) : 0.0f;
        }
    }
}

static void mirror(float *g, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            g[(size_t)i * n + j] = g[(size_t)j * n + i];
}

facet_status facet_gram_similarity(const facet_mask_set *set, const facet_alloc *alloc,
                                   const facet_report *report, float *similarity, facet_err *err)
{
    const uint32_t n = set->n, f = set->d_ff;
    size_t cells = 0;
    if (!facet_mul_size(n, f, &cells)) return facet_fail_memory(err, SIZE_MAX);
    float *rows = facet_mem_new(alloc, cells, sizeof *rows);
    double *means = facet_mem_new(alloc, n, sizeof *means);
    facet_status status = FACET_OK;
    if (!rows || !means) {
        status = facet_fail_memory(err, cells * sizeof *rows);
        goto done;
    }
    memset(similarity, 0, (size_t)n * n * sizeof *similarity);
    for (uint32_t layer = 0; layer < set->n_layers; layer++) {
        for (uint32_t i = 0; i < n; i++) {
            if (facet_gram_row(set, i, layer, rows + (size_t)i * f)) continue;
            status = facet_fail(err, FACET_BAD_INPUT,
                                "mask set: sample %u, layer %u has a score that is negative or not "
                                "a number; predict the masks again",
                                i, layer);
            goto done;
        }
        cblas_ssyrk(CblasRowMajor, CblasUpper, CblasNoTrans, (int)n, (int)f,
                    1.0f / (float)set->n_layers, rows, (int)f, 1.0f, similarity, (int)n);
        FACET_TRY_GOTO(facet_report_progress(report, "cluster", layer + 1, set->n_layers, err),
                       done);
    }
    mirror(similarity, n);
    centre(similarity, n, means);
done:
    facet_mem_free(alloc, rows);
    facet_mem_free(alloc, means);
    return status;
}

facet_status facet_gram_overlap(const facet_gram_masks *masks, const facet_alloc *alloc,
                                float *overlap, facet_err *err)
{
    const uint32_t n = masks->n, f = masks->d_ff;
    const size_t row_bytes = facet_bits_bytes(f);
    float *rows = facet_mem_new(alloc, n, (size_t)f * sizeof *rows);
    float *common = facet_mem_new(alloc, n, n * sizeof *common);
    facet_status status = FACET_OK;
    if (!rows || !common) {
        status = facet_fail_memory(err, (size_t)n * f * sizeof *rows);
        goto done;
    }
    memset(overlap, 0, (size_t)n * n * sizeof *overlap);
    for (uint32_t layer = 0; layer < masks->n_layers; layer++) {
        for (uint32_t i = 0; i < n; i++) {
            const uint8_t *bits = masks->masks + ((size_t)i * masks->n_layers + layer) * row_bytes;
            for (uint32_t j = 0; j < f; j++)
                rows[(size_t)i * f + j] = facet_bits_get(bits, j) ? 1.0f : 0.0f;
        }
        // Whole numbers below 2^24: exact in float.
        cblas_ssyrk(CblasRowMajor, CblasUpper, CblasNoTrans, (int)n, (int)f, 1.0f, rows, (int)f,
                    0.0f, common, (int)n);
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t j = i; j < n; j++) {
                const float size = 0.5f * (common[(size_t)i * n + i] + common[(size_t)j * n + j]);
                if (size > 0)
                    overlap[(size_t)i * n + j] +=
                        common[(size_t)i * n + j] / size / (float)masks->n_layers;
            }
        }
    }
    mirror(overlap, n);
done:
    facet_mem_free(alloc, rows);
    facet_mem_free(alloc, common);
    return status;
}

facet_status facet_gram_make_masks(const facet_mask_set *set, double keep, const facet_alloc *alloc,
                                   uint8_t **masks, facet_err *err)
{
    const size_t row_bytes = facet_bits_bytes(set->d_ff);
    const size_t n_rows = (size_t)set->n * set->n_layers;
    uint8_t *out = facet_mem_new(alloc, n_rows, row_bytes);
    uint32_t *order = facet_mem_new(alloc, set->d_ff, sizeof *order);
    if (!out || !order) {
        facet_mem_free(alloc, out);
        facet_mem_free(alloc, order);
        return facet_fail_memory(err, n_rows * row_bytes);
    }
    if (set->mask) {
        memcpy(out, set->mask, n_rows * row_bytes);
    } else {
        const uint32_t n = facet_select_channels(set->d_ff, keep);
        for (size_t i = 0; i < n_rows; i++)
            facet_select_top(set->scores + i * set->d_ff, set->d_ff, n, order, out + i * row_bytes);
    }
    facet_mem_free(alloc, order);
    *masks = out;
    return FACET_OK;
}
