// SPDX-License-Identifier: Apache-2.0
#include "tools/generate.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tools/output.h"
#include "tools/signals.h"

typedef struct loop {
    facet_bundle *bundle;
    facet_session *session;
    const facet_generate_opts *opts;
    facet_generated *out;
    facet_sampler sampler;
    facet_text before, after; // text of a few last tokens, without and with the newest one
    size_t sent;              // bytes of out->text that went to the piece function
} loop;

// The newest token's bytes: what the last tokens' text gains by it. Decoding it alone would lose
// the blank that some tokenizers put between words and drop at the start of a text.
static facet_status add_text(loop *l, facet_err *err)
{
    enum { LOOK_BACK = 4 };
    const facet_tokenizer *tokenizer = facet_bundle_tokenizer(l->bundle);
    facet_generated *out = l->out;
    const uint32_t first = out->n > LOOK_BACK + 1 ? out->n - LOOK_BACK - 1 : 0;
    const uint32_t n = out->n - first;
    facet_text_clear(&l->before);
    facet_text_clear(&l->after);
    FACET_TRY(facet_tokenizer_decode(tokenizer, out->ids + first, n - 1, false, &l->before, err));
    FACET_TRY(facet_tokenizer_decode(tokenizer, out->ids + first, n, false, &l->after, err));
    if (l->after.length > l->before.length)
        facet_text_put(&out->text, l->after.data + l->before.length,
                       l->after.length - l->before.length);
    return facet_text_status(&out->text, err);
}

// Cuts the text at the first stop text in it.
static bool stopped(loop *l)
{
    const facet_strings *stops = l->opts->stops;
    const char *first = NULL;
    for (size_t i = 0; stops != NULL && i < stops->n; i++) {
        const char *at = strstr(facet_text_str(&l->out->text), stops->items[i]);
        if (at != NULL && (first == NULL || at < first)) first = at;
    }
    if (first == NULL) return false;
    l->out->text.length = (size_t)(first - l->out->text.data);
    l->out->text.data[l->out->text.length] = '\0';
    return true;
}

static facet_status send(loop *l, bool last, facet_err *err)
{
    const facet_text *text = &l->out->text;
    if (l->opts->piece == NULL || text->length <= l->sent) return FACET_OK;
    size_t n = text->length - l->sent;
    if (!last) n = facet_utf8_whole(text->data + l->sent, n);
    if (n == 0) return FACET_OK;
    FACET_TRY(l->opts->piece(l->opts->ctx, text->data + l->sent, n, err));
    l->sent += n;
    return FACET_OK;
}

static facet_status decode(loop *l, uint32_t id, facet_err *err)
{
    facet_generated *out = l->out;
    while (out->stop == NULL) {
        FACET_TRY(facet_signals_check(err));
        if (facet_token_is_end(l->bundle, id)) {
            out->stop = "end";
            break;
        }
        out->ids[out->n++] = id;
        FACET_TRY(add_text(l, err));
        if (stopped(l)) out->stop = "stop";
        FACET_TRY(send(l, false, err));
        if (out->stop != NULL) break;
        if (out->n == l->opts->n_max)
            out->stop = "length";
        else if (facet_session_length(l->session) >= l->opts->n_ctx)
            out->stop = "context";
        else
            FACET_TRY(facet_session_next(l->session, id, &l->sampler, &id, err));
        out->n_steps += out->stop == NULL;
    }
    return send(l, true, err);
}

// The whole prompt through the session's family, or through dense and then whom that chooses.
static facet_status read_prompt(loop *l, const uint32_t *tokens, size_t n, float *logits,
                                facet_err *err)
{
    facet_route *route = l->opts->route;
    const uint32_t used = facet_session_length(l->session);
    const bool choose = route != NULL && !route->chosen;
    if (choose) FACET_TRY(facet_route_begin(route, l->session, err));
    FACET_TRY(facet_session_prefill(l->session, tokens, n, logits, err));
    if (!choose) return FACET_OK;
    FACET_TRY(facet_route_choose(route, l->session, err));
    if (!route->again) return FACET_OK;
    FACET_TRY(facet_session_rewind(l->session, used, err));
    return facet_session_prefill(l->session, tokens, n, logits, err);
}

static facet_status prefill(loop *l, const uint32_t *tokens, size_t n, uint32_t *id, facet_err *err)
{
    const uint32_t n_vocab = facet_vocab(l->bundle);
    float *logits = facet_mem_new(NULL, n_vocab, sizeof *logits);
    if (logits == NULL) return facet_fail_memory(err, n_vocab * sizeof *logits);
    facet_status status = read_prompt(l, tokens, n, logits, err);
    if (status == FACET_OK) status = facet_session_sample(l->session, logits, &l->sampler, id, err);
    facet_mem_free(NULL, logits);
    return status;
}

static facet_status run(loop *l, const uint32_t *tokens, size_t n, facet_err *err)
{
    facet_generated *out = l->out;
    const uint32_t n_ctx = l->opts->n_ctx;
    const uint32_t used = facet_session_length(l->session);
    if (n > n_ctx - used)
        return facet_fail(
            err, FACET_BAD_INPUT,
            "prompt: %zu tokens do not fit into a context of %u with %u in use; shorten "
            "it or raise --ctx",
            n, n_ctx, used);
    out->ids = facet_mem_new(NULL, (size_t)l->opts->n_max + 1, sizeof *out->ids);
    if (out->ids == NULL) return facet_fail_memory(err, ((size_t)l->opts->n_max + 1) * 4);
    if (l->opts->n_max == 0) out->stop = "length";
    uint32_t id = 0;
    uint64_t begin = facet_clock_ns();
    FACET_TRY(prefill(l, tokens, n, &id, err));
    out->prefill_seconds = facet_clock_seconds(begin);
    begin = facet_clock_ns();
    FACET_TRY(decode(l, id, err));
    out->decode_seconds = facet_clock_seconds(begin);
    return FACET_OK;
}

facet_status facet_generate(facet_bundle *bundle, facet_session *session, const uint32_t *tokens,
                            size_t n, const facet_generate_opts *opts, facet_generated *out,
                            facet_err *err)
{
    facet_generated made = {0};
    loop l = {.bundle = bundle, .session = session, .opts = opts, .out = &made};
    l.sampler = opts->sampler;
    facet_text_init(&made.text, NULL);
    facet_text_init(&l.before, NULL);
    facet_text_init(&l.after, NULL);
    facet_status status = run(&l, tokens, n, err);
    facet_text_fini(&l.before);
    facet_text_fini(&l.after);
    if (status == FACET_OK)
        *out = made;
    else
        facet_generated_fini(&made);
    return status;
}

void facet_generated_fini(facet_generated *generated)
{
    facet_mem_free(NULL, generated->ids);
    facet_text_fini(&generated->text);
    *generated = (facet_generated){0};
}
