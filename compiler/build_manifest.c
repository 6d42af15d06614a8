// SPDX-License-Identifier: Apache-2.0
// The manifest of a build: facts of the model, what each family keeps, and how many bytes a decode
// step reads, counted in the source's types and as packed.
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "compiler/build_parts.h"
#include "compiler/pack.h"
#include "compiler/weights.h"

#define COPY(to, from) snprintf(to, sizeof to, "%s", from)

static uint32_t rope_style(facet_rotary rotary)
{
    static const uint32_t styles[] = {[FACET_ROTARY_NONE] = FACET_ROPE_NONE,
                                      [FACET_ROTARY_NORMAL] = FACET_ROPE_NORMAL,
                                      [FACET_ROTARY_NEOX] = FACET_ROPE_NEOX};
    return styles[rotary];
}

static void fill_model(const facet_building *b, facet_manifest_model *m)
{
    const facet_model *model = b->model;
    const facet_hparams *hp = &model->hp;
    COPY(m->arch, model->arch);
    COPY(m->name, model->name);
    COPY(m->chat, b->chat);
    m->n_layers = hp->n_layers;
    m->d_model = hp->d_model;
    m->d_ff = hp->d_ff;
    m->n_heads = hp->n_heads;
    m->n_kv_heads = hp->n_kv_heads;
    m->head_dim = hp->head_dim;
    m->n_vocab = hp->n_vocab;
    m->n_ctx = hp->n_ctx;
    m->rope_style = rope_style(hp->rotary);
    m->rope_dims = hp->rope_dims;
    m->act = hp->act == FACET_GATE_SILU ? FACET_ACT_SILU : FACET_ACT_GELU_TANH;
    m->window = hp->window;
    m->window_period = hp->window_period;
    m->rms_eps = (double)hp->rms_eps;
    m->rope_base = (double)hp->rope_base;
    m->rope_base_local = (double)hp->rope_base_local;
    m->rope_scale = (double)hp->rope_scale;
    m->attn_scale = (double)hp->attn_scale;
    m->embed_scale = (double)hp->embed_scale;
    m->n_parameters = model->n_parameters;
    m->source_bytes = model->file_bytes;
    m->token_bytes = facet_weights_token_bytes(model);
    m->token_ffn_bytes = facet_weights_ffn_bytes(model);
}

static facet_status fill_family(facet_building *b, uint32_t i, facet_err *err)
{
    facet_manifest *m = &b->manifest;
    facet_manifest_family *f = &m->families[i];
    const facet_layout *layout = &b->layout;
    const uint32_t n_layers = layout->n_layers, n_tiles = layout->n_tiles;
    f->n_channels = facet_arena_new(&m->arena, n_layers, sizeof *f->n_channels);
    f->n_runs = facet_arena_new(&m->arena, n_layers, sizeof *f->n_runs);
    f->runs = facet_arena_new(&m->arena, n_layers, 2 * (size_t)n_tiles * sizeof *f->runs);
    if (!f->n_channels || !f->n_runs || !f->runs)
        return facet_fail_memory(err, 2 * (size_t)n_layers * n_tiles * sizeof *f->runs);
    COPY(f->name, i == 0 ? "dense" : b->families->names[i - 1]);
    f->keep = i == 0 ? 1.0 : b->keep;
    f->recall = 1.0;
    if (i > 0 &&
        (size_t)snprintf(f->file, sizeof f->file, "families/%s.bin", f->name) >= sizeof f->file)
        return facet_fail(err, FACET_BAD_INPUT, "family %s: its name is too long", f->name);
    uint32_t n = 0;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        if (i == 0) {
            f->n_channels[layer] = layout->d_ff;
            f->n_runs[layer] = 1;
            f->runs[2 * n + 1] = n_tiles;
            n++;
            continue;
        }
        const uint32_t *tiles = facet_layout_tiles(layout, i - 1, layer);
        const uint32_t kept = facet_layout_kept(layout, i - 1, layer);
        f->n_runs[layer] = facet_layout_runs(tiles, kept, f->runs + 2 * (size_t)n);
        n += f->n_runs[layer];
        const bool ragged = tiles[kept - 1] == n_tiles - 1;
        f->n_channels[layer] =
            kept * FACET_TILE - (ragged ? n_tiles * FACET_TILE - layout->d_ff : 0);
    }
    return FACET_OK;
}

facet_status facet_build_manifest_begin(facet_building *b, facet_err *err)
{
    facet_manifest *m = &b->manifest;
    m->version = FACET_BUNDLE_VERSION;
    fill_model(b, &m->model);
    COPY(m->compensate, facet_compensation_name(b->opts->compensate));
    COPY(m->layout, "g16");
    COPY(m->quant, "keep");
    m->n_families = 1 + b->n_families;
    m->families = facet_arena_new(&m->arena, m->n_families, sizeof *m->families);
    // weights, tokenizer, proof, a file a family, a kernel a family and target.
    const size_t most = 3 + (size_t)m->n_families * (1 + (size_t)b->opts->n_targets);
    m->files = facet_arena_new(&m->arena, most, sizeof *m->files);
    m->kernels = facet_arena_new(&m->arena, most, sizeof *m->kernels);
    if (!m->families || !m->files || !m->kernels)
        return facet_fail_memory(err, most * sizeof *m->files);
    for (uint32_t i = 0; i < m->n_families; i++)
        FACET_TRY(fill_family(b, i, err));
    return FACET_OK;
}

facet_status facet_build_path(const facet_building *b, const char *name, char path[4096],
                              facet_err *err)
{
    return facet_path_join(path, 4096, b->dir, name, err);
}

facet_status facet_build_add_file(facet_building *b, const char *name, facet_err *err)
{
    facet_manifest *m = &b->manifest;
    for (uint32_t i = 0; i < m->n_files; i++)
        if (strcmp(m->files[i].name, name) == 0) return FACET_OK; // one kernel of two families
    char path[4096];
    facet_digest digest;
    facet_manifest_file *file = &m->files[m->n_files];
    FACET_TRY(facet_build_path(b, name, path, err));
    FACET_TRY(facet_path_size(path, &file->bytes, err));
    FACET_TRY(facet_hash_file(path, &digest, err));
    COPY(file->name, name);
    COPY(file->xxh3, digest.hex);
    m->n_files++;
    return FACET_OK;
}

// ---- bytes of a decode step
// ----------------------------------------------------------------------

static uint64_t entry_bytes(const facet_manifest *m, uint32_t layer, const char *name)
{
    const facet_entry *entry = facet_manifest_entry(m->entries, m->n_entries, layer, name);
    return entry ? entry->bytes : 0;
}

// What every family reads: all but the FFN's matrices, the head, one row of the embedding.
static uint64_t shared_packed_bytes(const facet_manifest *m)
{
    const uint32_t n_layers = m->model.n_layers;
    const uint64_t embd = entry_bytes(m, n_layers, FACET_ENTRY_TOKEN_EMBD);
    const uint64_t head = entry_bytes(m, n_layers, FACET_ENTRY_HEAD);
    uint64_t sum = entry_bytes(m, n_layers, FACET_ENTRY_OUT_NORM) + (head ? head : embd) +
                   embd / m->model.n_vocab;
    for (uint32_t i = 0; i < m->n_entries; i++) {
        const facet_entry *e = &m->entries[i];
        const bool ffn = strcmp(e->name, FACET_ENTRY_GATE_UP) == 0 ||
                         strcmp(e->name, FACET_ENTRY_DOWN) == 0 ||
                         strcmp(e->name, FACET_ENTRY_PERM) == 0;
        if (e->layer < n_layers && !ffn) sum += e->bytes;
    }
    return sum;
}

static uint64_t tensor_bytes(const facet_building *b, facet_role role, uint32_t layer)
{
    return facet_model_tensor(b->model, role, layer)->bytes;
}

static void count_bytes(facet_building *b, uint32_t i)
{
    const facet_manifest *m = &b->manifest;
    facet_manifest_family *f = &m->families[i];
    f->packed_token_bytes = shared_packed_bytes(m);
    f->token_bytes = m->model.token_bytes - m->model.token_ffn_bytes;
    for (uint32_t layer = 0; layer < m->model.n_layers; layer++) {
        const uint64_t in =
            tensor_bytes(b, FACET_ROLE_GATE, layer) + tensor_bytes(b, FACET_ROLE_UP, layer);
        const uint64_t tiles = entry_bytes(m, layer, FACET_ENTRY_GATE_UP);
        if (i == 0) {
            f->token_bytes += in + tensor_bytes(b, FACET_ROLE_DOWN, layer);
            f->packed_token_bytes += tiles + entry_bytes(m, layer, FACET_ENTRY_DOWN) +
                                     entry_bytes(m, layer, FACET_ENTRY_PERM);
            continue;
        }
        const facet_built_layer *built = &b->layers[(size_t)(i - 1) * m->model.n_layers + layer];
        const uint32_t kept = facet_layout_kept(&b->layout, i - 1, layer);
        f->token_bytes += in * f->n_channels[layer] / m->model.d_ff;
        f->token_bytes +=
            (uint64_t)kept * facet_quantize_block_bytes(built->down) * m->model.d_model +
            (built->bias ? 4 * (uint64_t)m->model.d_model : 0);
        f->packed_token_bytes += tiles / b->layout.n_tiles * kept;
    }
    for (uint32_t n = 0; n < f->n_entries; n++) {
        const facet_entry *e = &f->entries[n];
        if (strcmp(e->name, FACET_ENTRY_SCORES) == 0) continue;
        f->packed_token_bytes += e->bytes;
        if (!facet_manifest_own_vector(e->name)) continue;
        // Read in place of the shared one, not beside it.
        f->packed_token_bytes -= entry_bytes(m, e->layer, e->name);
        f->token_bytes += e->bytes - facet_weights_vector_bytes(b->model, e->name, e->layer);
    }
}

facet_status facet_build_manifest_end(facet_building *b, facet_err *err)
{
    char path[4096], *text = NULL;
    for (uint32_t i = 0; i < b->manifest.n_families; i++)
        count_bytes(b, i);
    FACET_TRY(facet_build_path(b, FACET_MANIFEST_FILE, path, err));
    FACET_TRY(facet_manifest_check(&b->manifest, path, err));
    FACET_TRY(facet_manifest_print(&b->manifest, b->alloc, &text, err));
    const facet_status status = facet_file_write(path, text, strlen(text), true, err);
    facet_mem_free(b->alloc, text);
    return status;
}
