// SPDX-License-Identifier: Apache-2.0
#include "compiler/plan.h"

#include "base/memory.h"
#include "compiler/pack.h"
#include "compiler/target.h"

// ---- text ---------------------------------------------------------------------------------------

static const char *word(bool flag)
{
    return flag ? "yes" : "no";
}

static void print_number(facet_text *out, const char *name, double value)
{
    facet_text_add(out, "%s ", name);
    facet_text_add_number(out, value);
    facet_text_puts(out, "\n");
}

static void print_shape(const facet_shape *s, facet_text *out)
{
    facet_text_add(out, "layers %u\nd_model %u\nd_ff %u\n", s->n_layers, s->d_model, s->d_ff);
    facet_text_add(out, "heads %u\nkv_heads %u\nhead_dim %u\n", s->n_heads, s->n_kv_heads,
                   s->head_dim);
    facet_text_add(out, "vocab %u\nrope_dims %u\nrope_style %u\nact %u\n", s->n_vocab, s->rope_dims,
                   s->rope_style, s->act);
    print_number(out, "rms_eps", (double)s->rms_eps);
    print_number(out, "attn_scale", (double)s->attn_scale);
}

static void print_runs(const facet_plan_layer *layer, facet_text *out)
{
    for (uint32_t i = 0; i < layer->n_tiles;) {
        uint32_t end = i + 1;
        while (end < layer->n_tiles && layer->tiles[end] == layer->tiles[end - 1] + 1)
            end++;
        facet_text_add(out, " %u+%u", layer->tiles[i], end - i);
        i = end;
    }
}

// The order is a list of d_ff numbers: its digest stands for it, over bytes of a fixed order.
static void print_order(const facet_plan *plan, const facet_plan_layer *layer, facet_text *out)
{
    facet_hasher *hasher = facet_hasher_new(out->alloc);
    if (!hasher) {
        out->status = FACET_NO_MEMORY;
        return;
    }
    for (uint32_t i = 0; i < facet_plan_all_tiles(plan) * FACET_TILE; i++) {
        const uint32_t c = layer->perm[i];
        const uint8_t bytes[4] = {(uint8_t)c, (uint8_t)(c >> 8), (uint8_t)(c >> 16),
                                  (uint8_t)(c >> 24)};
        facet_hasher_add(hasher, bytes, sizeof bytes);
    }
    facet_text_puts(out, facet_hasher_end(hasher).hex);
}

static void print_layer(const facet_plan *plan, uint32_t i, facet_text *out)
{
    const facet_plan_layer *l = &plan->layers[i];
    facet_text_add(out, "layer %u packs %s %s %s %s %s %s %s\n", i, facet_pack_name(l->q),
                   facet_pack_name(l->k), facet_pack_name(l->v), facet_pack_name(l->o),
                   facet_pack_name(l->gate), facet_pack_name(l->up), facet_pack_name(l->down));
    facet_text_add(out, "layer %u biases %s %s %s %s down %s\n", i, word(l->q_bias),
                   word(l->k_bias), word(l->v_bias), word(l->o_bias), word(l->down_bias));
    facet_text_add(out, "layer %u norms q %s k %s attn_post %s ffn_post %s\n", i, word(l->q_norm),
                   word(l->k_norm), word(l->attn_post), word(l->ffn_post));
    facet_text_add(out, "layer %u window %u rope %u down_cols %u\n", i, l->window, l->rope,
                   l->down_cols);
    facet_text_add(out, "layer %u tiles", i);
    print_runs(l, out);
    facet_text_add(out, "\nlayer %u order ", i);
    if (l->perm)
        print_order(plan, l, out);
    else
        facet_text_puts(out, "kept");
    facet_text_puts(out, "\n");
}

void facet_plan_print(const facet_plan *plan, facet_text *out)
{
    facet_text_add(out, "facet plan 1\nabi %u\ntarget %s\nkind %s\n", FACET_ABI_VERSION,
                   plan->target, plan->dense ? "dense" : "family");
    print_shape(&plan->shape, out);
    facet_text_add(out, "head %s\n", facet_pack_name(plan->head));
    for (uint32_t i = 0; i < plan->shape.n_layers; i++)
        print_layer(plan, i, out);
}

facet_digest facet_plan_digest(const facet_plan *plan, facet_err *err)
{
    facet_text text;
    facet_text_init(&text, NULL);
    facet_plan_print(plan, &text);
    facet_digest digest = {""};
    if (facet_text_status(&text, err) == FACET_OK) digest = facet_hash(text.data, text.length);
    facet_text_fini(&text);
    return digest;
}

// ---- check --------------------------------------------------------------------------------------

static facet_status check_shape(const facet_plan *plan, facet_err *err)
{
    const facet_shape *s = &plan->shape;
    if (!s->n_layers || !s->d_model || !s->d_ff || !s->n_heads || !s->n_kv_heads || !s->head_dim ||
        !s->n_vocab)
        return facet_fail(err, FACET_BAD_INPUT, "plan: a dimension of the shape is zero");
    if (s->n_heads % s->n_kv_heads != 0)
        return facet_fail(err, FACET_BAD_INPUT,
                          "plan: %u heads cannot share %u heads of keys and values", s->n_heads,
                          s->n_kv_heads);
    if (s->rope_dims % 2 != 0 || s->rope_dims > s->head_dim)
        return facet_fail(err, FACET_BAD_INPUT, "plan: %u rotated dimensions in a head of %u",
                          s->rope_dims, s->head_dim);
    if (s->d_ff > UINT32_MAX - FACET_TILE)
        return facet_fail(err, FACET_BAD_INPUT, "plan: d_ff %u is too large", s->d_ff);
    if (!facet_target_find(plan->target))
        return facet_fail(err, FACET_BAD_INPUT, "plan: the target '%s' is unknown", plan->target);
    return FACET_OK;
}

// Activations come in blocks of 32 columns: a unit that reaches past their last block has no input.
static facet_status check_cols(facet_pack pack, uint32_t cols, const char *what, uint32_t layer,
                               facet_err *err)
{
    if (pack >= FACET_PACK_COUNT)
        return facet_fail(err, FACET_BAD_INPUT, "plan: layer %u: %s has no known packing", layer,
                          what);
    if (facet_pack_cols(pack) > FACET_BLOCK && cols % facet_pack_cols(pack) != 0)
        return facet_fail(err, FACET_UNSUPPORTED,
                          "plan: layer %u: %s has %u columns, %s needs a multiple of %u", layer,
                          what, cols, facet_pack_name(pack), facet_pack_cols(pack));
    return FACET_OK;
}

static facet_status check_tiles(const facet_plan *plan, uint32_t i, facet_err *err)
{
    const facet_plan_layer *l = &plan->layers[i];
    const uint32_t all = facet_plan_all_tiles(plan);
    for (uint32_t k = 0; k < l->n_tiles; k++) {
        if (l->tiles[k] >= all || (k > 0 && l->tiles[k] <= l->tiles[k - 1]))
            return facet_fail(err, FACET_BAD_INPUT,
                              "plan: layer %u: kept tile %u is out of order or range", i, k);
    }
    if (l->perm && l->n_tiles != all)
        return facet_fail(err, FACET_BAD_INPUT, "plan: layer %u: dense keeps %u of %u tiles", i,
                          l->n_tiles, all);
    for (uint32_t c = 0; l->perm && c < all * FACET_TILE; c++) {
        if (l->perm[c] >= plan->shape.d_ff && l->perm[c] != UINT32_MAX)
            return facet_fail(err, FACET_BAD_INPUT, "plan: layer %u: channel %u of the order is %u",
                              i, c, l->perm[c]);
    }
    return FACET_OK;
}

static facet_status check_layer(const facet_plan *plan, uint32_t i, facet_err *err)
{
    const facet_plan_layer *l = &plan->layers[i];
    const uint32_t d = plan->shape.d_model;
    const uint32_t q_dim = plan->shape.n_heads * plan->shape.head_dim;
    FACET_TRY(check_cols(l->q, d, "q", i, err));
    FACET_TRY(check_cols(l->k, d, "k", i, err));
    FACET_TRY(check_cols(l->v, d, "v", i, err));
    FACET_TRY(check_cols(l->o, q_dim, "o", i, err));
    FACET_TRY(check_cols(l->gate, d, "gate", i, err));
    FACET_TRY(check_cols(l->up, d, "up", i, err));
    FACET_TRY(check_cols(l->down, l->down_cols, "down", i, err));
    FACET_TRY(check_tiles(plan, i, err));
    if (l->rope > 1)
        return facet_fail(err, FACET_BAD_INPUT, "plan: layer %u: there is no rope table %u", i,
                          l->rope);
    const uint32_t needed = l->perm ? plan->shape.d_ff : l->n_tiles * FACET_TILE;
    if (l->down_cols < needed || l->down_cols % facet_pack_cols(l->down) != 0 ||
        (!l->perm && l->down_cols != needed))
        return facet_fail(err, FACET_BAD_INPUT, "plan: layer %u: down stores %u columns for %u", i,
                          l->down_cols, needed);
    return FACET_OK;
}

facet_status facet_plan_check(const facet_plan *plan, facet_err *err)
{
    FACET_TRY(check_shape(plan, err));
    FACET_TRY(check_cols(plan->head, plan->shape.d_model, "head", plan->shape.n_layers, err));
    for (uint32_t i = 0; i < plan->shape.n_layers; i++)
        FACET_TRY(check_layer(plan, i, err));
    return FACET_OK;
}
