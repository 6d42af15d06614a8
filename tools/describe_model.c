// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "model/tokenizer.h"
#include "tools/describe.h"

static uint64_t bytes_of(const facet_model *model, facet_role role, uint32_t layer)
{
    const facet_tensor *tensor = facet_model_tensor(model, role, layer);
    return tensor != NULL ? tensor->bytes : 0;
}

void facet_model_step_bytes(const facet_model *model, uint64_t *all, uint64_t *ffn)
{
    *ffn = 0;
    // Of the embedding one row is read, which a tied head reads once more; rope factors are
    // constants.
    *all = bytes_of(model, FACET_ROLE_HEAD, 0) + bytes_of(model, FACET_ROLE_OUT_NORM, 0);
    if (!model->tied && model->hp.n_vocab > 0)
        *all += bytes_of(model, FACET_ROLE_TOKEN_EMBD, 0) / model->hp.n_vocab;
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++) {
        for (int role = FACET_ROLE_ATTN_NORM; role < FACET_ROLE_COUNT; role++)
            *all += bytes_of(model, (facet_role)role, layer);
        *ffn += bytes_of(model, FACET_ROLE_GATE, layer) + bytes_of(model, FACET_ROLE_UP, layer) +
                bytes_of(model, FACET_ROLE_DOWN, layer);
    }
}

static void add_types(const facet_model *model, cJSON *doc)
{
    uint32_t counts[FACET_DTYPE_COUNT] = {0};
    for (uint32_t i = 0; i < model->n_tensors; i++)
        counts[model->tensors[i].dtype]++;
    cJSON *types = facet_doc_object(doc, "types");
    for (int i = 0; i < FACET_DTYPE_COUNT; i++)
        if (counts[i] > 0) facet_doc_number(types, facet_dtype_name((facet_dtype)i), counts[i]);
}

static void add_hparams(const facet_hparams *hp, cJSON *doc)
{
    const struct {
        const char *name;
        uint32_t value;
    } facts[] = {
        {"layers", hp->n_layers}, {"d_model", hp->d_model},     {"d_ffn", hp->d_ff},
        {"heads", hp->n_heads},   {"kv_heads", hp->n_kv_heads}, {"head_dim", hp->head_dim},
        {"vocab", hp->n_vocab},   {"context", hp->n_ctx},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(facts); i++)
        facet_doc_number(doc, facts[i].name, facts[i].value);
}

facet_status facet_describe_model(const facet_tool *tool, const facet_model *model, cJSON *doc,
                                  facet_err *err)
{
    char fingerprint[33];
    facet_tokenizer *tokenizer;
    FACET_TRY(facet_model_fingerprint(model, &tool->report, fingerprint, err));
    FACET_TRY(facet_tokenizer_new(model, &tokenizer, err));
    facet_doc_text(doc, "kind", "model");
    facet_doc_text(doc, "format", model->format);
    facet_doc_text(doc, "arch", model->arch);
    facet_doc_text(doc, "name", model->name);
    add_hparams(&model->hp, doc);
    facet_doc_number(doc, "parameters", (double)model->n_parameters);
    facet_doc_number(doc, "tensors", model->n_tensors);
    add_types(model, doc);
    facet_doc_number(doc, "file_bytes", (double)model->file_bytes);
    facet_doc_text(doc, "fingerprint", fingerprint);
    facet_doc_text(doc, "shape", facet_model_shape(model));
    uint64_t all, ffn;
    facet_model_step_bytes(model, &all, &ffn);
    facet_doc_number(doc, "bytes_per_token", (double)all);
    facet_doc_number(doc, "ffn_bytes_share", all > 0 ? (double)ffn / (double)all : 0);
    facet_doc_text(doc, "chat_template", facet_tokenizer_chat(tokenizer));
    facet_doc_text(doc, "tokenizer", facet_tokenizer_kind(tokenizer));
    facet_tokenizer_free(tokenizer);
    return FACET_OK;
}
