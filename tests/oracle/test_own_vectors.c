// SPDX-License-Identifier: Apache-2.0
// A family with vectors of its own: the runtime on a bundle that holds them against the float32
// stream of calib/ that is given them, which is what tuning and its second walk compute with.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calib/stream.h"
#include "runtime/eval.h"
#include "tests/support/tiny.h"

enum { TOKENS = 40, OWN_NOTHING = 1, OWN_ALL = 2, OWN_LAST = 3 }; // families

static uint32_t tokens[TOKENS];

static void ok(facet_status status, const facet_err *err)
{
    if (status != FACET_OK) fail_msg("%s", err->message);
}

// ---- calib's logits -----------------------------------------------------------------------------

// The family's vectors as training would hand them over.
static void own_init(const tiny *t, const facet_model *model, uint32_t family, facet_vectors *own)
{
    facet_err err;
    ok(facet_vectors_init(own, model, FACET_ROLES_VECTOR, NULL, &err), &err);
    for (uint32_t layer = 0; layer < t->opts.n_layers; layer++)
        for (uint32_t v = 0; v < TINY_VECTORS; v++) {
            const float *data = tiny_vector_of(&t->layers[layer], family, v);
            const facet_vector vector = facet_vectors_get(own, tiny_vector_role(v), layer);
            if (data) memcpy(vector.data, data, vector.n * sizeof *data);
        }
    const float *out_norm = t->out_norm[family];
    if (out_norm)
        memcpy(facet_vectors_get(own, FACET_ROLE_OUT_NORM, 0).data, out_norm,
               t->opts.d_model * sizeof *out_norm);
}

// The family's FFN of a layer, its channels ascending. Free with free(custom.kept) and .down.
typedef struct pruned {
    uint32_t *kept;
    float *down;
    uint32_t n;
} pruned;

static pruned pruned_of(const tiny *t, uint32_t layer, uint32_t family)
{
    const tiny_layer *l = &t->layers[layer];
    const tiny_down *own = &l->own[family];
    const uint32_t d = t->opts.d_model, n_places = t->n_tiles * FACET_TILE;
    pruned p = {malloc(n_places * sizeof *p.kept), malloc((size_t)n_places * d * sizeof *p.down),
                0};
    assert_true(p.kept && p.down);
    for (uint32_t channel = 0; channel < t->opts.d_ff; channel++) {
        uint32_t column = 0, place = 0;
        for (; l->perm[place] != channel; place++)
            column += t->kept[family][place / FACET_TILE];
        if (!t->kept[family][place / FACET_TILE]) continue;
        for (uint32_t r = 0; r < d; r++)
            p.down[(size_t)p.n * d + r] = own->values[(size_t)r * own->cols + column];
        p.kept[p.n++] = channel;
    }
    return p;
}

static void stream_logits(const tiny *t, uint32_t family, float *logits)
{
    uint32_t length = TOKENS;
    const facet_samples samples = {tokens, &length, 1, TOKENS, NULL, NULL};
    facet_model *model = tiny_wrap(t);
    facet_vectors own;
    facet_stream *stream;
    facet_err err;
    own_init(t, model, family, &own);
    ok(facet_stream_new(model, &samples, NULL, &stream, &err), &err);
    facet_stream_own(stream, &own, false);
    for (uint32_t layer = 0; layer < t->opts.n_layers; layer++) {
        const pruned p = pruned_of(t, layer, family);
        const facet_ffn_custom custom = {p.kept, p.n, p.down, t->layers[layer].own[family].bias};
        ok(facet_stream_attn(stream, &err), &err);
        ok(facet_stream_ffn_custom(stream, &custom, &err), &err);
        free(p.kept);
        free(p.down);
    }
    for (uint32_t i = 0; i < TOKENS; i++)
        ok(facet_stream_logits(stream, i, logits + (size_t)i * t->n_vocab, &err), &err);
    facet_stream_free(stream);
    facet_vectors_fini(&own);
    free(model);
}

// ---- the runtime's ------------------------------------------------------------------------------

// Half of the tokens prefilled, where only the last one's logits are looked at, the rest one by
// one. Returns the first row that `logits` has.
static uint32_t session_logits(facet_bundle *bundle, uint32_t family, float *logits)
{
    const uint32_t vocab = facet_vocab(bundle), first = TOKENS / 2 - 1;
    const facet_session_opts opts = {.n_ctx = TOKENS, .n_threads = 2};
    facet_session *s;
    facet_err err;
    ok(facet_session_new(bundle, tiny_family_names[family], &opts, &s, &err), &err);
    ok(facet_session_prefill(s, tokens, first + 1, logits + (size_t)first * vocab, &err), &err);
    for (uint32_t i = first + 1; i < TOKENS; i++)
        ok(facet_session_step(s, tokens[i], logits + (size_t)i * vocab, &err), &err);
    facet_session_free(s);
    return first;
}

static void check_model(const tiny_opts *opts)
{
    char dir[4096], path[4200];
    facet_err err;
    facet_bundle *bundle;
    const facet_open_opts generic = {.mode = FACET_MODE_GENERIC};
    tiny_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/tiny.facet", dir);
    tiny *t = tiny_new(opts);
    tiny_write(t, path, NULL, NULL);
    ok(facet_open(path, &generic, &bundle, &err), &err);
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (i * i * 7 + i * 13 + 5) % t->n_vocab;
    const size_t n = (size_t)TOKENS * t->n_vocab;
    float *got = malloc(n * sizeof *got), *want = malloc(n * sizeof *want);
    assert_true(got && want);
    for (uint32_t family = OWN_NOTHING; family <= OWN_LAST; family++) {
        const size_t from = (size_t)session_logits(bundle, family, got) * t->n_vocab;
        stream_logits(t, family, want);
        // Keys and values are halves in the runtime and floats in the stream.
        const double error = tiny_distance(got + from, want + from, n - from);
        print_message("family %s: %.2g\n", tiny_family_names[family], error);
        assert_true(error < 1e-3);
        if (family == OWN_NOTHING) continue;
        // Without its vectors it would be another.
        float *last = t->out_norm[family];
        t->out_norm[family] = NULL;
        stream_logits(t, family, want);
        t->out_norm[family] = last;
        assert_true(tiny_distance(got + from, want + from, n - from) > 1e-2);
    }
    free(got);
    free(want);
    facet_close(bundle);
    tiny_free(t);
    tiny_remove(dir);
}

static void test_gains(void **state)
{
    (void)state;
    check_model(&tiny_plain);
}

// Biases as Qwen2 has them, post norms and windows as Gemma has them.
static void test_all(void **state)
{
    (void)state;
    tiny_opts opts = tiny_plain;
    opts.biases = opts.head_norms = opts.post_norms = true;
    opts.rope_style = FACET_ROPE_NEOX;
    opts.act = FACET_ACT_GELU_TANH;
    opts.window = 9;
    opts.window_period = 2;
    check_model(&opts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gains), cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
