// SPDX-License-Identifier: Apache-2.0
// The CPU: which of a family's artifacts this machine can run, loading it, and the portable table
// when there is none. Code of a target that the CPU lacks is never loaded, let alone called.
#include <dlfcn.h>
#include <string.h>

#include "kernels/reference.h"
#include "runtime/bundle.h"
#include "runtime/isa.h"

// The reference with its unit counts filled in, so that running a step asks no questions.
static facet_status open_generic(facet_bundle *bundle, facet_family *family, facet_err *err)
{
    const uint32_t n_layers = bundle->shape.n_layers;
    facet_variant *variant = &family->variant;
    variant->generic = facet_mem_new(bundle->alloc, n_layers, sizeof variant->generic[0]);
    if (!variant->generic) return facet_fail_memory(err, n_layers * sizeof variant->generic[0]);
    const facet_step step = {.shape = &bundle->shape, .layers = family->layers};
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        for (uint32_t s = 0; s < FACET_STAGE_COUNT; s++) {
            variant->generic[layer][s] = facet_reference_stages[s];
            variant->generic[layer][s].n_units = facet_stage_units(&step, layer, s);
        }
    }
    variant->head = facet_reference_head;
    variant->head.n_units = facet_stage_units(&step, n_layers, FACET_STAGE_COUNT);
    variant->stages = (const facet_stage(*)[FACET_STAGE_COUNT])variant->generic;
    variant->target = "generic";
    return FACET_OK;
}

// Shape is plain numbers, but floats are compared by value and nothing by its padding.
static bool same_shape(const facet_shape *a, const facet_shape *b)
{
    return a->n_layers == b->n_layers && a->d_model == b->d_model && a->d_ff == b->d_ff &&
           a->n_heads == b->n_heads && a->n_kv_heads == b->n_kv_heads &&
           a->head_dim == b->head_dim && a->n_vocab == b->n_vocab && a->rope_dims == b->rope_dims &&
           a->rope_style == b->rope_style && a->act == b->act && a->rms_eps == b->rms_eps &&
           a->attn_scale == b->attn_scale;
}

static bool same_units(const facet_bundle *bundle, const facet_family *family,
                       const facet_artifact *artifact)
{
    const facet_step step = {.shape = &bundle->shape, .layers = family->layers};
    for (uint32_t layer = 0; layer < bundle->shape.n_layers; layer++) {
        for (uint32_t s = 0; s < FACET_STAGE_COUNT; s++) {
            const facet_stage *stage = &artifact->layers[layer][s];
            if (!stage->body || stage->n_units != facet_stage_units(&step, layer, s)) return false;
        }
    }
    return artifact->head.body &&
           artifact->head.n_units ==
               facet_stage_units(&step, step.shape->n_layers, FACET_STAGE_COUNT);
}

// Why an artifact cannot be used with this family; NULL: it can.
static const char *artifact_fault(const facet_bundle *bundle, const facet_family *family,
                                  const facet_artifact *artifact, const char *target)
{
    if (artifact->abi_version != FACET_ABI_VERSION) return "it has another ABI version";
    if (artifact->struct_bytes != sizeof(facet_artifact)) return "its table has another size";
    if (!artifact->target || strcmp(artifact->target, target) != 0)
        return "its target is not the manifest's";
    if (!artifact->plan || !facet_digest_valid(artifact->plan)) return "it names no plan";
    if (!same_shape(&artifact->shape, &bundle->shape)) return "it is of another model shape";
    if (!artifact->layers || !same_units(bundle, family, artifact))
        return "its stages do not fit the family";
    return NULL;
}

// NULL and the variant filled, or the reason why not (borrowed until the next dl call).
static const char *open_artifact(const facet_bundle *bundle, facet_family *family,
                                 const facet_manifest_kernel *kernel, const char *path)
{
    facet_variant *variant = &family->variant;
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) return dlerror();
    const facet_artifact *artifact = dlsym(object, "facet_artifact_table");
    const char *fault = artifact ? artifact_fault(bundle, family, artifact, kernel->target)
                                 : "it exports no facet_artifact_table";
    if (fault) {
        dlclose(object);
        return fault;
    }
    variant->object = object;
    variant->target = kernel->target;
    variant->stages = artifact->layers;
    variant->head = artifact->head;
    return NULL;
}

// The family's best artifact that this CPU runs, or NULL.
static const facet_manifest_kernel *choose(const facet_bundle *bundle, const char *family)
{
    const facet_manifest_kernel *best = NULL;
    for (uint32_t i = 0; i < bundle->manifest.n_kernels; i++) {
        const facet_manifest_kernel *kernel = &bundle->manifest.kernels[i];
        if (strcmp(kernel->family, family) != 0) continue;
        if (!facet_isa_runs(kernel->target, bundle->isa)) continue;
        if (!best || facet_isa_rank(kernel->target) > facet_isa_rank(best->target)) best = kernel;
    }
    return best;
}

static facet_status refuse(const facet_bundle *bundle, const char *family, const char *wanted,
                           const char *fault, facet_err *err)
{
    if (strcmp(wanted, "generic") == 0)
        return facet_fail_at(err, FACET_REFUSED, bundle->path, -1,
                             "%s: this CPU (or the ISA limit) allows no baked target; use --mode "
                             "generic",
                             bundle->path);
    return facet_fail_at(err, FACET_REFUSED, bundle->path, -1,
                         "%s: no kernels of target %s for family %s: %.160s; compile the bundle "
                         "with --target %s, or use --mode auto",
                         bundle->path, wanted, family, fault, wanted);
}

facet_status facet_variant_open(facet_bundle *bundle, facet_family *family, facet_err *err)
{
    const char *name = family->facts->name, *fault = NULL;
    if (bundle->mode == FACET_MODE_GENERIC) return open_generic(bundle, family, err);
    const facet_manifest_kernel *kernel = choose(bundle, name);
    const char *wanted = kernel ? kernel->target : facet_isa_best(bundle->isa);
    if (kernel) {
        char path[4096];
        FACET_TRY(facet_path_join(path, sizeof path, bundle->path, kernel->file, err));
        fault = open_artifact(bundle, family, kernel, path);
        if (!fault) return FACET_OK;
    } else {
        fault = "the bundle has none for this machine";
    }
    if (bundle->mode == FACET_MODE_STRICT) return refuse(bundle, name, wanted, fault, err);
    if (!bundle->warned)
        facet_bundle_log(bundle, FACET_LOG_WARN,
                         "%s: family %s runs on portable kernels, many times slower: no kernels of "
                         "target %s: %.160s",
                         bundle->path, name, wanted, fault);
    bundle->warned = true;
    return open_generic(bundle, family, err);
}

void facet_variant_close(facet_bundle *bundle, facet_variant *variant)
{
    if (variant->object) dlclose(variant->object);
    facet_mem_free(bundle->alloc, variant->generic);
    *variant = (facet_variant){0};
}
