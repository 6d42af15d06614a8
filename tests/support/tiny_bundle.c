// SPDX-License-Identifier: Apache-2.0
// A bundle of a tiny model, written with compiler/pack.h and cache/manifest.h only.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/tokenizer_parts.h"
#include "tests/support/tiny.h"

// Bytes of a file under construction and its entries.
typedef struct pile {
    uint8_t *data;
    size_t bytes;
    facet_entry *entries;
    uint32_t n_entries;
} pile;

static void must(facet_status status, const facet_err *err)
{
    if (status == FACET_OK) return;
    fprintf(stderr, "tiny bundle: %s\n", err->message);
    abort();
}

static void *grown(void *ptr, size_t bytes)
{
    void *result = realloc(ptr, bytes);
    if (!result) abort();
    return result;
}

static uint8_t *pile_add(pile *p, size_t bytes)
{
    const size_t at = (p->bytes + FACET_ENTRY_ALIGN - 1) / FACET_ENTRY_ALIGN * FACET_ENTRY_ALIGN;
    p->data = grown(p->data, at + bytes + 1);
    memset(p->data + p->bytes, 0, at + bytes - p->bytes);
    p->bytes = at + bytes;
    return p->data + at;
}

static facet_entry *entry_add(pile *p, const char *name, uint32_t layer, const char *pack,
                              uint32_t rows, uint32_t cols)
{
    p->entries = grown(p->entries, (p->n_entries + 1) * sizeof *p->entries);
    facet_entry *e = &p->entries[p->n_entries++];
    *e = (facet_entry){.layer = layer, .n_rows = rows, .n_cols = cols};
    snprintf(e->name, sizeof e->name, "%s", name);
    snprintf(e->pack, sizeof e->pack, "%s", pack);
    return e;
}

static void put_raw(pile *p, const char *name, uint32_t layer, const char *pack, uint32_t n,
                    const void *data)
{
    if (!data) return;
    facet_entry *e = entry_add(p, name, layer, pack, 1, n);
    e->bytes = (uint64_t)n * 4;
    uint8_t *at = pile_add(p, e->bytes);
    memcpy(at, data, e->bytes);
    e->offset = (uint64_t)(at - p->data);
}

static uint32_t stored_cols(const tiny_mat *m)
{
    const uint32_t unit = facet_pack_cols(facet_pack_of(m->dtype));
    return (m->cols + unit - 1) / unit * unit;
}

static const void *row_of(const tiny_mat *m, uint64_t row)
{
    const uint32_t block = facet_dtype_block(m->dtype);
    return row < m->rows ? m->data + row * (m->cols / block * facet_dtype_bytes(m->dtype)) : NULL;
}

static void put_mat(pile *p, const char *name, uint32_t layer, const tiny_mat *m)
{
    const facet_pack pack = facet_pack_of(m->dtype);
    facet_entry *e = entry_add(p, name, layer, facet_pack_name(pack), m->rows, stored_cols(m));
    facet_pack_size(pack, m->rows, m->cols, &e->bytes);
    uint8_t *at = pile_add(p, e->bytes);
    e->offset = (uint64_t)(at - p->data);
    const uint32_t groups = (m->rows + 15) / 16;
    for (uint32_t g = 0; g < groups; g++) {
        const void *rows[16];
        for (uint32_t r = 0; r < 16; r++)
            rows[r] = row_of(m, 16 * g + r);
        facet_pack_group(pack, rows, e->n_cols, at + g * (e->bytes / groups));
    }
}

// Two groups of one tile's rows, in layout order.
static uint8_t *put_tile(const tiny *t, const tiny_layer *l, const tiny_mat *m, uint32_t tile,
                         uint8_t *out)
{
    const facet_pack pack = facet_pack_of(m->dtype);
    uint64_t bytes = 0;
    facet_pack_size(pack, 16, m->cols, &bytes);
    for (uint32_t h = 0; h < 2; h++) {
        const void *rows[16];
        for (uint32_t r = 0; r < 16; r++) {
            const uint32_t at = tile * FACET_TILE + 16 * h + r;
            const uint32_t channel = l->perm ? l->perm[at] : at;
            rows[r] = channel < t->opts.d_ff ? row_of(m, channel) : NULL;
        }
        facet_pack_group(pack, rows, stored_cols(m), out + h * bytes);
    }
    return out + 2 * bytes;
}

static void put_gate_up(pile *p, const tiny *t, const tiny_layer *l, uint32_t layer)
{
    const tiny_mat *halves[2] = {&l->gate, &l->up};
    uint64_t total = 0;
    for (uint32_t i = 0; i < 2; i++) {
        const facet_pack pack = facet_pack_of(halves[i]->dtype);
        uint64_t bytes = 0;
        entry_add(p, i ? "up" : "gate", layer, facet_pack_name(pack), t->opts.d_ff,
                  stored_cols(halves[i]));
        facet_pack_size(pack, FACET_TILE, halves[i]->cols, &bytes);
        total += bytes * t->n_tiles;
    }
    facet_entry *e =
        entry_add(p, "gate_up", layer, FACET_PACK_NAME_TILES, t->opts.d_ff, t->opts.d_model);
    uint8_t *at = pile_add(p, total);
    e->bytes = total;
    e->offset = (uint64_t)(at - p->data);
    for (uint32_t i = 0; i < t->n_tiles; i++)
        at = put_tile(t, l, &l->up, i, put_tile(t, l, &l->gate, i, at));
}

// The shared vectors (family 0) or those that a family has of its own.
static void put_vectors(pile *p, const tiny *t, uint32_t layer, uint32_t family)
{
    for (uint32_t v = 0; v < TINY_VECTORS; v++)
        put_raw(p, tiny_vector_name(v), layer, "F32", tiny_vector_size(&t->opts, v),
                t->layers[layer].vectors[family][v]);
}

static void put_layer(pile *p, const tiny *t, uint32_t layer)
{
    const tiny_opts *o = &t->opts;
    const tiny_layer *l = &t->layers[layer];
    put_vectors(p, t, layer, 0);
    put_mat(p, "q", layer, &l->q);
    put_mat(p, "k", layer, &l->k);
    put_mat(p, "v", layer, &l->v);
    put_mat(p, "o", layer, &l->o);
    put_raw(p, "o_bias", layer, "F32", o->d_model, l->o_bias);
    put_raw(p, "q_norm", layer, "F32", o->head_dim, l->q_norm);
    put_raw(p, "k_norm", layer, "F32", o->head_dim, l->k_norm);
    put_gate_up(p, t, l, layer);
    put_mat(p, "down", layer, &l->down);
    put_raw(p, "perm", layer, FACET_PACK_NAME_U32, t->n_tiles * FACET_TILE, l->perm);
}

static void put_weights(pile *p, const tiny *t)
{
    const uint32_t n = t->opts.n_layers;
    put_mat(p, "token_embd", n, &t->embed);
    if (t->head.values) put_mat(p, "head", n, &t->head);
    put_raw(p, "out_norm", n, "F32", t->opts.d_model, t->out_norm[0]);
    put_raw(p, "rope_factors", n, "F32", t->opts.rope_dims / 2, t->rope_factors);
    for (uint32_t layer = 0; layer < n; layer++)
        put_layer(p, t, layer);
}

// One for a kept channel, zero for the others.
static void put_scores(pile *p, const tiny *t, uint32_t layer, uint32_t family)
{
    const uint32_t *perm = t->layers[layer].perm;
    float *scores = grown(NULL, t->n_tiles * FACET_TILE * sizeof *scores);
    for (uint32_t i = 0; i < t->n_tiles * FACET_TILE; i++) {
        const uint32_t channel = perm ? perm[i] : i;
        if (channel < t->opts.d_ff) scores[channel] = t->kept[family][i / FACET_TILE];
    }
    put_raw(p, "scores", layer, "F32", t->opts.d_ff, scores);
    free(scores);
}

static void put_family(pile *p, const tiny *t, uint32_t family)
{
    for (uint32_t layer = 0; layer < t->opts.n_layers; layer++) {
        const tiny_down *down = &t->layers[layer].own[family];
        facet_entry *e =
            entry_add(p, "down", layer, facet_pack_name(down->pack), t->opts.d_model, down->cols);
        uint8_t *at = pile_add(p, down->packed_bytes);
        memcpy(at, down->packed, down->packed_bytes);
        e->offset = (uint64_t)(at - p->data);
        e->bytes = down->packed_bytes;
        put_raw(p, "down_bias", layer, "F32", t->opts.d_model, down->bias);
        put_vectors(p, t, layer, family);
        put_scores(p, t, layer, family);
    }
    put_raw(p, "out_norm", t->opts.n_layers, "F32", t->opts.d_model, t->out_norm[family]);
}

// <unk> <s> </s>, the 256 bytes, and a few pieces.
static void make_tokenizer(uint32_t n_vocab, facet_text *out)
{
    facet_err err;
    facet_tokenizer *t = facet_tokenizer_make(NULL);
    if (!t) abort();
    t->engine = FACET_ENGINE_SPM;
    t->unknown = 0;
    t->bos = 1;
    t->eos = 2;
    t->add_bos = true;
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    for (uint32_t i = 0; i < n_vocab; i++) {
        char text[16];
        facet_token_type type = FACET_TOKEN_NORMAL;
        if (i < 3) {
            snprintf(text, sizeof text, "%s", special[i]);
            type = i == 0 ? FACET_TOKEN_UNKNOWN : FACET_TOKEN_CONTROL;
        } else if (i < 259) {
            snprintf(text, sizeof text, "<0x%02X>", i - 3);
            type = FACET_TOKEN_BYTE;
        } else if (i < 285) {
            snprintf(text, sizeof text, "%c", 'a' + (int)(i - 259));
        } else {
            snprintf(text, sizeof text, "piece%u", i);
        }
        must(facet_vocab_add(t, text, strlen(text), -(float)i, type, "tiny", &err), &err);
    }
    const facet_vocab_ids ids = FACET_VOCAB_IDS_NONE;
    must(facet_vocab_index(t, "tiny", &err), &err);
    must(facet_vocab_name(t, &ids, &err), &err);
    must(facet_tokenizer_finish(t, "tiny", &err), &err);
    must(facet_tokenizer_save(t, out, &err), &err);
    facet_tokenizer_free(t);
}

// ---- manifest -----------------------------------------------------------------------------------

static void write_file(const char *dir, const char *name, const void *data, size_t bytes,
                       facet_manifest *m)
{
    char path[4096];
    facet_err err;
    must(facet_path_join(path, sizeof path, dir, name, &err), &err);
    must(facet_file_write(path, data, bytes, false, &err), &err);
    facet_manifest_file *file = &m->files[m->n_files++];
    *file = (facet_manifest_file){.bytes = bytes};
    snprintf(file->name, sizeof file->name, "%s", name);
    memcpy(file->xxh3, facet_hash(data, bytes).hex, sizeof file->xxh3);
}

static void describe_model(const tiny *t, facet_manifest_model *m)
{
    const tiny_opts *o = &t->opts;
    *m = (facet_manifest_model){.arch = "llama",
                                .name = "tiny",
                                .fingerprint = "0123456789abcdef0123456789abcdef",
                                .chat = "none",
                                .n_layers = o->n_layers,
                                .d_model = o->d_model,
                                .d_ff = o->d_ff,
                                .n_heads = o->n_heads,
                                .n_kv_heads = o->n_kv_heads,
                                .head_dim = o->head_dim,
                                .n_vocab = t->n_vocab,
                                .n_ctx = o->n_ctx,
                                .rope_style = o->rope_style,
                                .rope_dims = o->rope_dims,
                                .act = o->act,
                                .window = o->window,
                                .window_period = o->window_period,
                                .rms_eps = (double)1e-5f,
                                .rope_base = 10000.0,
                                .rope_base_local = 500.0,
                                .rope_scale = o->rope_scale,
                                .attn_scale = 1.0 / sqrt(o->head_dim),
                                .embed_scale = o->embed_scale,
                                .n_parameters = 1000,
                                .source_bytes = 1000,
                                .token_bytes = 1000,
                                .token_ffn_bytes = 500};
}

static void describe_family(const tiny *t, uint32_t family, facet_manifest_family *f)
{
    const uint32_t n = t->opts.n_layers;
    snprintf(f->name, sizeof f->name, "%s", tiny_family_names[family]);
    f->keep = 1.0;
    f->recall = 1.0;
    f->token_bytes = f->packed_token_bytes = 1000;
    f->n_channels = grown(NULL, n * sizeof(uint32_t));
    f->n_runs = grown(NULL, n * sizeof(uint32_t));
    f->runs = grown(NULL, (size_t)n * (t->n_tiles + 1) * 2 * sizeof(uint32_t));
    uint32_t *next = f->runs;
    for (uint32_t layer = 0; layer < n; layer++) {
        uint32_t channels = 0, runs = 0;
        for (uint32_t i = 0; i < t->n_tiles; i++) {
            if (!t->kept[family][i]) continue;
            const uint32_t left = t->opts.d_ff - i * FACET_TILE;
            channels += left < FACET_TILE ? left : FACET_TILE;
            if (i > 0 && t->kept[family][i - 1]) {
                next[-1]++;
            } else {
                *next++ = i;
                *next++ = 1;
                runs++;
            }
        }
        f->n_channels[layer] = channels;
        f->n_runs[layer] = runs;
    }
}

static void add_kernels(facet_manifest *m, const char *dir, const char *kernel, const char *target)
{
    char *data = NULL, path[4096];
    size_t bytes = 0;
    facet_err err;
    if (!kernel) return;
    must(facet_path_join(path, sizeof path, dir, "kernels", &err), &err);
    must(facet_dir_make(path, 0755, &err), &err);
    must(facet_file_read(kernel, 1u << 30, NULL, &data, &bytes, &err), &err);
    write_file(dir, "kernels/tiny.so", data, bytes, m);
    m->kernels = grown(NULL, TINY_FAMILIES * sizeof *m->kernels);
    for (uint32_t i = 0; i < TINY_FAMILIES; i++) {
        facet_manifest_kernel *k = &m->kernels[m->n_kernels++];
        *k = (facet_manifest_kernel){.key = "0123456789abcdef0123456789abcdef", .bytes = bytes};
        snprintf(k->target, sizeof k->target, "%s", target);
        snprintf(k->family, sizeof k->family, "%s", tiny_family_names[i]);
        snprintf(k->file, sizeof k->file, "kernels/tiny.so");
    }
    free(data);
}

static void add_family_files(facet_manifest *m, const tiny *t, const char *dir)
{
    char path[4096];
    facet_err err;
    must(facet_path_join(path, sizeof path, dir, "families", &err), &err);
    must(facet_dir_make(path, 0755, &err), &err);
    for (uint32_t i = 0; i < TINY_FAMILIES; i++) {
        facet_manifest_family *f = &m->families[i];
        describe_family(t, i, f);
        if (i == 0) continue;
        pile own = {0};
        put_family(&own, t, i);
        snprintf(f->file, sizeof f->file, "families/%s.bin", f->name);
        write_file(dir, f->file, own.data, own.bytes, m);
        f->extra_bytes = own.bytes;
        f->entries = own.entries;
        f->n_entries = own.n_entries;
        free(own.data);
    }
}

void tiny_write(const tiny *t, const char *path, const char *kernel, const char *target)
{
    facet_manifest_family families[TINY_FAMILIES] = {0};
    facet_manifest_file files[TINY_FAMILIES + 4];
    facet_manifest m = {.version = FACET_BUNDLE_VERSION,
                        .compensate = "none",
                        .layout = "cpu16",
                        .quant = "keep",
                        .families = families,
                        .n_families = TINY_FAMILIES,
                        .files = files};
    pile weights = {0};
    facet_text tokenizer;
    facet_err err;
    char *text = NULL, manifest[4096];
    describe_model(t, &m.model);
    must(facet_dir_make(path, 0755, &err), &err);
    put_weights(&weights, t);
    m.entries = weights.entries;
    m.n_entries = weights.n_entries;
    write_file(path, "weights.bin", weights.data, weights.bytes, &m);
    facet_text_init(&tokenizer, NULL);
    make_tokenizer(t->n_vocab, &tokenizer);
    write_file(path, "tokenizer.bin", tokenizer.data, tokenizer.length, &m);
    add_family_files(&m, t, path);
    add_kernels(&m, path, kernel, target);
    must(facet_manifest_check(&m, "tiny", &err), &err);
    must(facet_manifest_print(&m, NULL, &text, &err), &err);
    must(facet_path_join(manifest, sizeof manifest, path, FACET_MANIFEST_FILE, &err), &err);
    must(facet_file_write(manifest, text, strlen(text), false, &err), &err);
    free(text);
    facet_text_fini(&tokenizer);
    for (uint32_t i = 0; i < TINY_FAMILIES; i++) {
        free(families[i].n_channels);
        free(families[i].n_runs);
        free(families[i].runs);
        free(families[i].entries);
    }
    free(m.kernels);
    free(weights.entries);
    free(weights.data);
}
