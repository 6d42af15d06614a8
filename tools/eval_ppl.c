// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "runtime/eval.h"
#include "tools/evaluate.h"
#include "tools/family_choice.h"
#include "tools/loss.h"

enum { TEXT_MAX = 1 << 30, WINDOW = 256 };

// Cuts tokens into windows of ctx tokens, BOS included.
static facet_status cut(const facet_tokens *tokens, int64_t bos, size_t ctx, facet_samples *out,
                        facet_err *err)
{
    const size_t extra = bos >= 0 ? 1 : 0;
    const size_t room = ctx - extra;
    const size_t n = tokens->count < room ? 1 : tokens->count / room;
    const size_t first = tokens->count < room ? tokens->count : room;
    out->lengths = facet_mem_new(NULL, n, sizeof *out->lengths);
    out->tokens = facet_mem_new(NULL, n * (first + extra), sizeof *out->tokens);
    if (out->lengths == NULL || out->tokens == NULL)
        return facet_fail_memory(err, n * (first + extra) * sizeof *out->tokens);
    uint32_t *to = out->tokens;
    for (size_t i = 0; i < n; i++) {
        if (extra != 0) *to++ = (uint32_t)bos;
        memcpy(to, tokens->ids + i * room, first * sizeof *to);
        to += first;
        out->lengths[i] = (uint32_t)(first + extra);
    }
    out->n = (uint32_t)n;
    out->n_tokens = n * (first + extra);
    return FACET_OK;
}

static facet_status load_windows(const facet_eval_opts *opts, const facet_bundle *bundle,
                                 facet_samples *out, facet_err *err)
{
    const facet_tokenizer *tokenizer = facet_bundle_tokenizer(bundle);
    char *text;
    size_t bytes;
    facet_tokens tokens = {0};
    FACET_TRY(facet_file_read(opts->ppl, TEXT_MAX, NULL, &text, &bytes, err));
    facet_status status =
        facet_tokenizer_encode(tokenizer, text, bytes, false, false, NULL, &tokens, err);
    facet_mem_free(NULL, text);
    const int64_t bos = facet_tokenizer_adds_bos(tokenizer) ? facet_tokenizer_bos(tokenizer) : -1;
    if (status == FACET_OK && tokens.count + (bos >= 0 ? 1 : 0) < 2)
        status = facet_fail_at(err, FACET_BAD_INPUT, opts->ppl, -1,
                               "%s: has too few tokens to score; name a longer text", opts->ppl);
    if (status == FACET_OK)
        status = cut(&tokens, bos, opts->ctx != 0 ? opts->ctx : WINDOW, out, err);
    facet_mem_free(NULL, tokens.ids);
    return status;
}

static facet_status score(const facet_tool *tool, const facet_eval_opts *opts, facet_bundle *bundle,
                          const char *family, const facet_samples *windows, cJSON *results,
                          facet_err *err)
{
    double nats;
    uint64_t scored;
    const uint64_t begin = facet_clock_ns();
    FACET_TRY(facet_loss_samples(tool, bundle, family, family, windows, &nats, &scored, err));
    const double nll = nats / (double)scored;
    cJSON *row = facet_doc_push_object(results);
    facet_doc_text(row, "family", family);
    facet_doc_text(row, "file", opts->ppl);
    facet_doc_number(row, "tokens", (double)scored);
    facet_doc_number(row, "nll", nll);
    facet_doc_number(row, "ppl", exp(nll));
    facet_doc_number(row, "seconds", facet_clock_seconds(begin));
    return FACET_OK;
}

facet_status facet_eval_ppl(const facet_tool *tool, const facet_eval_opts *opts,
                            facet_bundle *bundle, cJSON *doc, facet_err *err)
{
    facet_samples windows = {0};
    facet_strings families = {0};
    facet_status status = facet_family_list(bundle, opts->family, &families, err);
    if (status == FACET_OK) status = load_windows(opts, bundle, &windows, err);
    cJSON *results = facet_doc_array(doc, "results");
    for (size_t i = 0; i < families.n && status == FACET_OK; i++)
        status = score(tool, opts, bundle, families.items[i], &windows, results, err);
    facet_mem_free(NULL, windows.tokens);
    facet_mem_free(NULL, windows.lengths);
    facet_strings_fini(&families);
    return status;
}
