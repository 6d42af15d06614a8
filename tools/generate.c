// SPDX-License-Identifier: Apache-2.0
#include "tools/generate.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tools/output.h"
#include "tools/signals.h"

// ---- one answer, token by token -----------------------------------------------------------------

// The newest token's bytes: what the last tokens' text gains by it. Decoding it alone would lose
// the blank that some tokenizers put between words and drop at the start of a text.
static facet_status add_text(facet_answer *a, facet_err *err)
{
    enum { LOOK_BACK = 4 };
    const facet_tokenizer *tokenizer = facet_bundle_tokenizer(a->bundle);
    facet_generated *made = &a->made;
    const uint32_t first = made->n > LOOK_BACK + 1 ? made->n - LOOK_BACK - 1 : 0;
    const uint32_t n = made->n - first;
    facet_text_clear(&a->before);
    facet_text_clear(&a->after);
    FACET_TRY(facet_tokenizer_decode(tokenizer, made->ids + first, n - 1, false, &a->before, err));
    FACET_TRY(facet_tokenizer_decode(tokenizer, made->ids + first, n, false, &a->after, err));
    if (a->after.length > a->before.length)
        facet_text_put(&made->text, a->after.data + a->before.length,
                       a->after.length - a->before.length);
    return facet_text_status(&made->text, err);
}

// Cuts the text at the first stop text in it.
static bool stopped(facet_answer *a)
{
    const facet_strings *stops = a->opts->stops;
    facet_text *text = &a->made.text;
    const char *first = NULL;
    for (size_t i = 0; stops != NULL && i < stops->n; i++) {
        const char *at = strstr(facet_text_str(text), stops->items[i]);
        if (at != NULL && (first == NULL || at < first)) first = at;
    }
    if (first == NULL) return false;
    text->length = (size_t)(first - text->data);
    text->data[text->length] = '\0';
    return true;
}

// Whole characters only, as long as more may follow.
static facet_status send(facet_answer *a, facet_err *err)
{
    const facet_text *text = &a->made.text;
    if (a->opts->piece == NULL || text->length <= a->sent) return FACET_OK;
    size_t n = text->length - a->sent;
    if (a->made.stop == NULL) n = facet_utf8_whole(text->data + a->sent, n);
    if (n == 0) return FACET_OK;
    FACET_TRY(a->opts->piece(a->opts->ctx, text->data + a->sent, n, err));
    a->sent += n;
    return FACET_OK;
}

facet_status facet_answer_take(facet_answer *answer, uint32_t id, facet_err *err)
{
    facet_generated *made = &answer->made;
    made->ids[made->n_ids++] = id;
    if (facet_token_is_end(answer->bundle, id)) {
        made->stop = "end";
        return send(answer, err);
    }
    made->n++;
    FACET_TRY(add_text(answer, err));
    if (stopped(answer))
        made->stop = "stop";
    else if (made->n == answer->opts->n_max)
        made->stop = "length";
    else if (made->n > answer->room)
        made->stop = "context";
    return send(answer, err);
}

uint32_t facet_answer_last(const facet_answer *answer)
{
    return answer->made.ids[answer->made.n_ids - 1];
}

// The whole prompt through the session's family, or through dense and then whom that chooses.
static facet_status read_prompt(facet_answer *a, facet_session *session, const uint32_t *tokens,
                                size_t n, float *logits, facet_err *err)
{
    facet_route *route = a->opts->route;
    const uint32_t used = facet_session_length(session);
    const bool choose = route != NULL && !route->chosen;
    if (choose) FACET_TRY(facet_route_begin(route, session, err));
    FACET_TRY(facet_session_prefill(session, tokens, n, logits, err));
    if (!choose) return FACET_OK;
    FACET_TRY(facet_route_choose(route, session, err));
    if (!route->again) return FACET_OK;
    FACET_TRY(facet_session_rewind(session, used, err));
    return facet_session_prefill(session, tokens, n, logits, err);
}

// Room for the tokens that limit and context allow; the last one is drawn but not read.
static facet_status make_room(facet_answer *a, uint32_t used, size_t n, facet_err *err)
{
    const uint32_t n_ctx = a->opts->n_ctx;
    if (n > n_ctx - used)
        return facet_fail(
            err, FACET_BAD_INPUT,
            "prompt: %zu tokens do not fit into a context of %u with %u in use; shorten "
            "it or raise --ctx",
            n, n_ctx, used);
    a->room = n_ctx - used - (uint32_t)n;
    const size_t most = a->opts->n_max < a->room ? a->opts->n_max : a->room;
    a->made.ids = facet_mem_new(NULL, most + 1, sizeof *a->made.ids);
    return a->made.ids != NULL ? FACET_OK : facet_fail_memory(err, (most + 1) * 4);
}

facet_status facet_answer_begin(facet_answer *answer, facet_session *session,
                                const uint32_t *tokens, size_t n, float *logits, facet_err *err)
{
    uint32_t id = 0;
    answer->sampler = answer->opts->sampler;
    FACET_TRY(make_room(answer, facet_session_length(session), n, err));
    FACET_TRY(read_prompt(answer, session, tokens, n, logits, err));
    if (answer->opts->n_max == 0) {
        answer->made.stop = "length";
        return FACET_OK;
    }
    FACET_TRY(facet_session_sample(session, logits, &answer->sampler, &id, err));
    return facet_answer_take(answer, id, err);
}

void facet_answer_fini(facet_answer *answer)
{
    facet_text_fini(&answer->before);
    facet_text_fini(&answer->after);
    facet_generated_fini(&answer->made);
}

facet_generated facet_answer_result(facet_answer *answer)
{
    const facet_generated made = answer->made;
    answer->made = (facet_generated){0};
    return made;
}

void facet_generated_fini(facet_generated *generated)
{
    facet_mem_free(NULL, generated->ids);
    facet_text_fini(&generated->text);
    *generated = (facet_generated){0};
}

// ---- alone --------------------------------------------------------------------------------------

static facet_status run(facet_answer *a, facet_session *session, const uint32_t *tokens, size_t n,
                        float *logits, facet_err *err)
{
    facet_generated *made = &a->made;
    uint64_t begin = facet_clock_ns();
    FACET_TRY(facet_answer_begin(a, session, tokens, n, logits, err));
    made->prefill_seconds = facet_clock_seconds(begin);
    begin = facet_clock_ns();
    for (; made->stop == NULL; made->n_steps++) {
        uint32_t id;
        FACET_TRY(facet_signals_check(err));
        FACET_TRY(facet_session_next(session, facet_answer_last(a), &a->sampler, &id, err));
        FACET_TRY(facet_answer_take(a, id, err));
    }
    made->decode_seconds = facet_clock_seconds(begin);
    return FACET_OK;
}

facet_status facet_generate(facet_bundle *bundle, facet_session *session, const uint32_t *tokens,
                            size_t n, const facet_generate_opts *opts, facet_generated *out,
                            facet_err *err)
{
    const uint32_t n_vocab = facet_vocab(bundle);
    facet_answer answer = {.bundle = bundle, .opts = opts};
    float *logits = facet_mem_new(NULL, n_vocab, sizeof *logits);
    facet_status status = logits != NULL ? run(&answer, session, tokens, n, logits, err)
                                         : facet_fail_memory(err, n_vocab * sizeof *logits);
    facet_mem_free(NULL, logits);
    if (status == FACET_OK) *out = facet_answer_result(&answer);
    facet_answer_fini(&answer);
    return status;
}
