// SPDX-License-Identifier: Apache-2.0
//     weights.bin:  once: token_embd, head, out_norm, rope_factors
//                   per layer: vectors and matrices in the order of the table, gate_up, down, perm
#include "compiler/weights.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "compiler/pack.h"
#include "kernels/abi.h"

enum { page = 4096 };

typedef struct item {
    facet_role role;
    const char *name;
    bool matrix;
} item;

static const item once[] = {
    {FACET_ROLE_TOKEN_EMBD, FACET_ENTRY_TOKEN_EMBD, true},
    {FACET_ROLE_HEAD, FACET_ENTRY_HEAD, true},
    {FACET_ROLE_OUT_NORM, FACET_ENTRY_OUT_NORM, false},
};
static const item each[] = {
    {FACET_ROLE_ATTN_NORM, FACET_ENTRY_ATTN_NORM, false},
    {FACET_ROLE_Q, FACET_ENTRY_Q, true},
    {FACET_ROLE_K, FACET_ENTRY_K, true},
    {FACET_ROLE_V, FACET_ENTRY_V, true},
    {FACET_ROLE_Q_BIAS, FACET_ENTRY_Q_BIAS, false},
    {FACET_ROLE_K_BIAS, FACET_ENTRY_K_BIAS, false},
    {FACET_ROLE_V_BIAS, FACET_ENTRY_V_BIAS, false},
    {FACET_ROLE_Q_NORM, FACET_ENTRY_Q_NORM, false},
    {FACET_ROLE_K_NORM, FACET_ENTRY_K_NORM, false},
    {FACET_ROLE_O, FACET_ENTRY_O, true},
    {FACET_ROLE_O_BIAS, FACET_ENTRY_O_BIAS, false},
    {FACET_ROLE_ATTN_POST, FACET_ENTRY_ATTN_POST, false},
    {FACET_ROLE_FFN_NORM, FACET_ENTRY_FFN_NORM, false},
    {FACET_ROLE_FFN_POST, FACET_ENTRY_FFN_POST, false},
};

// The items of a layer, or, with n_layers for it, of what is no layer's.
static const item *items_of(uint32_t layer, uint32_t n_layers, size_t *n)
{
    *n = layer < n_layers ? FACET_COUNT_OF(each) : FACET_COUNT_OF(once);
    return layer < n_layers ? each : once;
}

typedef struct writer {
    const facet_model *model;
    const facet_layout *layout;
    const facet_alloc *alloc;
    facet_entries *entries;
    facet_out out;
    uint8_t *buffer; // grows
    size_t capacity;
} writer;

static facet_status reserve(writer *w, size_t bytes, facet_err *err)
{
    if (bytes <= w->capacity) return FACET_OK;
    uint8_t *buffer = facet_mem_resize(w->alloc, w->buffer, bytes, 1);
    if (!buffer) return facet_fail_memory(err, bytes);
    w->buffer = buffer;
    w->capacity = bytes;
    return FACET_OK;
}

static facet_status add_entry(facet_entries *entries, const facet_entry *entry, facet_err *err)
{
    if (entries->n == entries->capacity) {
        const uint32_t capacity = entries->capacity ? 2 * entries->capacity : 64;
        facet_entry *list = facet_arena_new(entries->arena, capacity, sizeof *list);
        if (!list) return facet_fail_memory(err, capacity * sizeof *list);
        if (entries->n) memcpy(list, entries->list, entries->n * sizeof *list);
        entries->list = list;
        entries->capacity = capacity;
    }
    entries->list[entries->n++] = *entry;
    return FACET_OK;
}

static facet_entry entry_of(const char *name, uint32_t layer, const char *pack, uint32_t n_rows,
                            uint32_t n_cols)
{
    facet_entry entry = {.layer = layer, .n_rows = n_rows, .n_cols = n_cols};
    memcpy(entry.name, name, strlen(name) + 1);
    memcpy(entry.pack, pack, strlen(pack) + 1);
    return entry;
}

// Starts an entry at the next multiple of `align`; `finish` knows its bytes.
static facet_status start(facet_out *out, uint64_t align, facet_entry *entry, facet_err *err)
{
    FACET_TRY(facet_out_pad(out, align, err));
    entry->offset = out->bytes;
    return FACET_OK;
}

static facet_status finish(facet_out *out, facet_entries *entries, facet_entry *entry,
                           facet_err *err)
{
    entry->bytes = out->bytes - entry->offset;
    return add_entry(entries, entry, err);
}

static facet_status put_vector(facet_out *out, facet_entries *entries, const char *name,
                               uint32_t layer, const float *data, uint32_t n, facet_err *err)
{
    facet_entry entry = entry_of(name, layer, "F32", 1, n);
    FACET_TRY(start(out, FACET_ENTRY_ALIGN, &entry, err));
    FACET_TRY(facet_out_write(out, data, n * sizeof *data, err));
    return finish(out, entries, &entry, err);
}

static const uint8_t *source_row(const facet_tensor *tensor, uint64_t row)
{
    const uint64_t row_bytes =
        tensor->dims[0] / facet_dtype_block(tensor->dtype) * facet_dtype_bytes(tensor->dtype);
    return (const uint8_t *)tensor->data + row * row_bytes;
}

// Packs 16 rows, given by number (UINT32_MAX: a zero row), behind what the file holds.
static facet_status put_group(writer *w, const facet_tensor *tensor, const uint32_t rows[16],
                              facet_err *err)
{
    const facet_pack pack = facet_pack_of(tensor->dtype);
    const uint32_t n_cols = (uint32_t)tensor->dims[0];
    const void *sources[FACET_GROUP];
    for (uint32_t i = 0; i < FACET_GROUP; i++)
        sources[i] = rows[i] == UINT32_MAX ? NULL : source_row(tensor, rows[i]);
    const size_t bytes = (size_t)(n_cols / facet_pack_cols(pack)) * facet_pack_bytes(pack);
    FACET_TRY(reserve(w, bytes, err));
    facet_pack_group(pack, sources, n_cols, w->buffer);
    return facet_out_write(&w->out, w->buffer, bytes, err);
}

static facet_status put_matrix(writer *w, const char *name, uint32_t layer,
                               const facet_tensor *tensor, facet_err *err)
{
    const uint32_t n_rows = (uint32_t)tensor->dims[1];
    facet_entry entry = entry_of(name, layer, facet_pack_name(facet_pack_of(tensor->dtype)), n_rows,
                                 (uint32_t)tensor->dims[0]);
    FACET_TRY(start(&w->out, page, &entry, err));
    for (uint32_t first = 0; first < n_rows; first += FACET_GROUP) {
        uint32_t rows[FACET_GROUP];
        for (uint32_t i = 0; i < FACET_GROUP; i++)
            rows[i] = first + i < n_rows ? first + i : UINT32_MAX;
        FACET_TRY(put_group(w, tensor, rows, err));
    }
    return finish(&w->out, w->entries, &entry, err);
}

static facet_status put_tensor_vector(writer *w, const item *it, uint32_t layer,
                                      const facet_tensor *tensor, facet_err *err)
{
    const uint32_t n = (uint32_t)tensor->dims[0];
    float *values = facet_mem_new(w->alloc, n, sizeof *values);
    if (!values) return facet_fail_memory(err, n * sizeof *values);
    facet_vector_read(w->model, it->role, tensor, values);
    const facet_status status = put_vector(&w->out, w->entries, it->name, layer, values, n, err);
    facet_mem_free(w->alloc, values);
    return status;
}

static facet_status put_items(writer *w, uint32_t layer, facet_err *err)
{
    size_t n;
    const item *items = items_of(layer, w->model->hp.n_layers, &n);
    for (size_t i = 0; i < n; i++) {
        if (items[i].role == FACET_ROLE_HEAD && w->model->tied) continue;
        const facet_tensor *tensor = facet_model_tensor(w->model, items[i].role, layer);
        if (!tensor) continue;
        FACET_TRY(items[i].matrix ? put_matrix(w, items[i].name, layer, tensor, err)
                                  : put_tensor_vector(w, &items[i], layer, tensor, err));
    }
    return FACET_OK;
}

// A tile: two groups of gate rows, then two of up rows, in layout order.
static facet_status put_tiles(writer *w, uint32_t layer, facet_err *err)
{
    const uint32_t *perm = facet_layout_perm(w->layout, layer);
    static const facet_role roles[] = {FACET_ROLE_GATE, FACET_ROLE_UP};
    static const char *const names[] = {FACET_ENTRY_GATE, FACET_ENTRY_UP};
    for (int i = 0; i < 2; i++) {
        const facet_tensor *tensor = facet_model_tensor(w->model, roles[i], layer);
        const facet_entry sizes =
            entry_of(names[i], layer, facet_pack_name(facet_pack_of(tensor->dtype)),
                     (uint32_t)tensor->dims[1], (uint32_t)tensor->dims[0]);
        FACET_TRY(add_entry(w->entries, &sizes, err));
    }
    facet_entry entry = entry_of(FACET_ENTRY_GATE_UP, layer, FACET_PACK_NAME_TILES,
                                 w->model->hp.d_ff, w->model->hp.d_model);
    FACET_TRY(start(&w->out, page, &entry, err));
    for (uint32_t tile = 0; tile < w->layout->n_tiles; tile++)
        for (int i = 0; i < 2; i++)
            for (uint32_t half = 0; half < FACET_TILE; half += FACET_GROUP)
                FACET_TRY(put_group(w, facet_model_tensor(w->model, roles[i], layer),
                                    perm + tile * FACET_TILE + half, err));
    return finish(&w->out, w->entries, &entry, err);
}

static facet_status put_layer(writer *w, uint32_t layer, facet_err *err)
{
    FACET_TRY(put_items(w, layer, err));
    FACET_TRY(put_tiles(w, layer, err));
    FACET_TRY(put_matrix(w, FACET_ENTRY_DOWN, layer,
                         facet_model_tensor(w->model, FACET_ROLE_DOWN, layer), err));
    const uint32_t n = w->layout->n_tiles * FACET_TILE;
    facet_entry entry = entry_of(FACET_ENTRY_PERM, layer, FACET_PACK_NAME_U32, 1, n);
    FACET_TRY(start(&w->out, FACET_ENTRY_ALIGN, &entry, err));
    FACET_TRY(
        facet_out_write(&w->out, facet_layout_perm(w->layout, layer), n * sizeof(uint32_t), err));
    return finish(&w->out, w->entries, &entry, err);
}

static facet_status put_all(writer *w, const facet_report *report, facet_err *err)
{
    const facet_hparams *hp = &w->model->hp;
    FACET_TRY(put_items(w, hp->n_layers, err));
    if (w->model->rope_factors)
        FACET_TRY(put_vector(&w->out, w->entries, FACET_ENTRY_ROPE_FACTORS, hp->n_layers,
                             w->model->rope_factors, hp->rope_dims / 2, err));
    for (uint32_t layer = 0; layer < hp->n_layers; layer++) {
        FACET_TRY(put_layer(w, layer, err));
        FACET_TRY(facet_report_progress(report, "pack", layer + 1, hp->n_layers, err));
    }
    return FACET_OK;
}

facet_status facet_weights_write(const facet_model *model, const facet_layout *layout,
                                 const char *path, const facet_report *report,
                                 facet_entries *entries, facet_err *err)
{
    writer w = {
        .model = model, .layout = layout, .alloc = entries->arena->alloc, .entries = entries};
    FACET_TRY(facet_out_open(&w.out, path, false, err));
    facet_status status = put_all(&w, report, err);
    if (status == FACET_OK)
        status = facet_out_commit(&w.out, err);
    else
        facet_out_abort(&w.out);
    facet_mem_free(w.alloc, w.buffer);
    return status;
}

facet_status facet_weights_put_down(facet_out *out, uint32_t layer, const facet_quantized *down,
                                    const float *bias, facet_entries *entries, facet_err *err)
{
    const size_t bytes =
        (size_t)(down->n_cols / facet_pack_cols(down->pack)) * facet_pack_bytes(down->pack);
    uint8_t *group = facet_mem_new(down->alloc, bytes, 1);
    if (!group) return facet_fail_memory(err, bytes);
    facet_entry entry =
        entry_of(FACET_ENTRY_DOWN, layer, facet_pack_name(down->pack), down->d, down->n_cols);
    facet_status status = start(out, page, &entry, err);
    for (uint32_t first = 0; first < down->d && status == FACET_OK; first += FACET_GROUP) {
        const void *rows[FACET_GROUP];
        for (uint32_t i = 0; i < FACET_GROUP; i++)
            rows[i] = first + i < down->d ? down->blocks + (first + i) * down->row_bytes : NULL;
        facet_pack_group(down->pack, rows, down->n_cols, group);
        status = facet_out_write(out, group, bytes, err);
    }
    facet_mem_free(down->alloc, group);
    FACET_TRY(status);
    FACET_TRY(finish(out, entries, &entry, err));
    return bias ? put_vector(out, entries, FACET_ENTRY_DOWN_BIAS, layer, bias, down->d, err)
                : FACET_OK;
}

facet_status facet_weights_put_own(facet_out *out, uint32_t layer, const facet_vectors *own,
                                   facet_entries *entries, facet_err *err)
{
    size_t n;
    const item *items = items_of(layer, own->n_layers, &n);
    for (size_t i = 0; i < n; i++) {
        const facet_vector vector = facet_vectors_get(own, items[i].role, layer);
        if (vector.data)
            FACET_TRY(put_vector(out, entries, items[i].name, layer, vector.data, vector.n, err));
    }
    return FACET_OK;
}

facet_status facet_weights_put_scores(facet_out *out, uint32_t layer, const float *scores,
                                      uint32_t n, facet_entries *entries, facet_err *err)
{
    const facet_alloc *alloc = entries->arena->alloc;
    float *unit = facet_mem_new(alloc, n, sizeof *unit);
    if (!unit) return facet_fail_memory(err, n * sizeof *unit);
    double sum = 0;
    for (uint32_t j = 0; j < n; j++)
        sum += (double)scores[j] * (double)scores[j];
    const double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    for (uint32_t j = 0; j < n; j++)
        unit[j] = (float)((double)scores[j] * scale);
    const facet_status status = put_vector(out, entries, FACET_ENTRY_SCORES, layer, unit, n, err);
    facet_mem_free(alloc, unit);
    return status;
}

uint64_t facet_weights_token_bytes(const facet_model *model)
{
    uint64_t sum = 0;
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++) {
        for (size_t i = 0; i < FACET_COUNT_OF(each); i++) {
            const facet_tensor *tensor = facet_model_tensor(model, each[i].role, layer);
            if (tensor) sum += tensor->bytes;
        }
    }
    const facet_tensor *embd = facet_model_tensor(model, FACET_ROLE_TOKEN_EMBD, 0);
    return sum + facet_weights_ffn_bytes(model) + embd->bytes / embd->dims[1] +
           facet_model_tensor(model, FACET_ROLE_HEAD, 0)->bytes +
           facet_model_tensor(model, FACET_ROLE_OUT_NORM, 0)->bytes;
}

uint64_t facet_weights_ffn_bytes(const facet_model *model)
{
    static const facet_role roles[] = {FACET_ROLE_GATE, FACET_ROLE_UP, FACET_ROLE_DOWN};
    uint64_t sum = 0;
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++)
        for (size_t i = 0; i < FACET_COUNT_OF(roles); i++)
            sum += facet_model_tensor(model, roles[i], layer)->bytes;
    return sum;
}

uint64_t facet_weights_vector_bytes(const facet_model *model, const char *name, uint32_t layer)
{
    size_t n;
    const item *items = items_of(layer, model->hp.n_layers, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(items[i].name, name) != 0) continue;
        const facet_tensor *tensor = facet_model_tensor(model, items[i].role, layer);
        return tensor ? tensor->bytes : 0;
    }
    return 0;
}

facet_pack facet_weights_pack(const facet_model *model, facet_role role, uint32_t layer)
{
    return facet_pack_of(facet_model_tensor(model, role, layer)->dtype);
}
