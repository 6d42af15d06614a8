// SPDX-License-Identifier: Apache-2.0
#include "tools/dense_recipe.h"

#include <string.h>

#include "cache/manifest.h"
#include "kernels/abi.h"

static void add_number(facet_text *recipe, const char *name, double value)
{
    facet_text_add(recipe, "%s ", name);
    facet_text_add_number(recipe, value);
    facet_text_puts(recipe, "\n");
}

// The fingerprint covers the weights only; two files may differ in what they say about them.
static void add_hparams(const facet_model *model, facet_text *recipe)
{
    const facet_hparams *hp = &model->hp;
    facet_text_add(recipe, "heads %u %u %u\n", hp->n_heads, hp->n_kv_heads, hp->head_dim);
    facet_text_add(recipe, "context %u\nrotary %d %u\nactivation %d\nwindow %u %u\ntied %d\n",
                   hp->n_ctx, (int)hp->rotary, hp->rope_dims, (int)hp->act, hp->window,
                   hp->window_period, model->tied ? 1 : 0);
    const struct {
        const char *name;
        float value;
    } facts[] = {
        {"rms_eps", hp->rms_eps},
        {"rope_base", hp->rope_base},
        {"rope_base_local", hp->rope_base_local},
        {"rope_scale", hp->rope_scale},
        {"attn_scale", hp->attn_scale},
        {"embed_scale", hp->embed_scale},
        {"norm_offset", hp->norm_offset},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(facts); i++)
        add_number(recipe, facts[i].name, (double)facts[i].value);
    for (uint32_t i = 0; model->rope_factors != NULL && i < hp->rope_dims / 2; i++)
        add_number(recipe, "rope_factor", (double)model->rope_factors[i]);
}

static facet_status add_tokenizer(const facet_model *model, facet_text *recipe, facet_err *err)
{
    facet_tokenizer *tokenizer;
    facet_text saved;
    FACET_TRY(facet_tokenizer_new(model, &tokenizer, err));
    facet_text_init(&saved, NULL);
    facet_status status = facet_tokenizer_save(tokenizer, &saved, err);
    if (status == FACET_OK) status = facet_text_status(&saved, err);
    if (status == FACET_OK)
        facet_text_add(recipe, "tokenizer %s\n", facet_hash(saved.data, saved.length).hex);
    facet_text_fini(&saved);
    facet_tokenizer_free(tokenizer);
    return status;
}

facet_status facet_dense_recipe(const facet_tool *tool, const facet_model *model,
                                const facet_targets *targets, const facet_cc *cc,
                                facet_text *recipe, facet_err *err)
{
    char fingerprint[33];
    FACET_TRY(facet_model_fingerprint(model, &tool->report, fingerprint, err));
    facet_text_add(recipe, "dense bundle %s\nfacet %s\nbundle %u\nabi %u\n",
                   facet_model_shape(model), FACET_VERSION, FACET_BUNDLE_VERSION,
                   FACET_ABI_VERSION);
    // The program stands for its packer and its templates: another build of it, another bundle.
    facet_digest program;
    if (facet_hash_file("/proc/self/exe", &program, NULL) == FACET_OK)
        facet_text_add(recipe, "program %s\n", program.hex);
    facet_text_add(recipe, "model %s\nname %s\n", fingerprint,
                   facet_hash(model->name, strlen(model->name)).hex);
    add_hparams(model, recipe);
    FACET_TRY(add_tokenizer(model, recipe, err));
    for (uint32_t i = 0; i < targets->n; i++)
        facet_text_add(recipe, "target %s\n", targets->names[i]);
    if (cc != NULL) facet_text_add(recipe, "compiler %s\n", cc->identity);
    return facet_text_status(recipe, err);
}
