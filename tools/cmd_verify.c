// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/file.h"
#include "runtime/eval.h"
#include "runtime/isa.h"
#include "tools/manifest_load.h"
#include "tools/output.h"
#include "tools/resolve.h"

static const facet_option options[] = {
    FACET_OPT_END,
};

typedef struct verify_job {
    const facet_tool *tool;
    const char *path;
    facet_manifest manifest;
    facet_bundle *bundle;
    cJSON *doc;
    uint32_t n_bad_files, n_bad_kernels;
} verify_job;

// ---- files
// ----------------------------------------------------------------------------------------

// NULL when the file is as the manifest says, else what is wrong with it.
static const char *file_fault(const verify_job *job, const facet_manifest_file *file)
{
    char path[4096];
    uint64_t bytes;
    facet_digest digest;
    if (facet_path_join(path, sizeof path, job->path, file->name, NULL) != FACET_OK)
        return "has too long a path";
    if (facet_path_size(path, &bytes, NULL) != FACET_OK) return "is missing";
    if (bytes != file->bytes) return "has another size";
    if (facet_hash_file(path, &digest, NULL) != FACET_OK) return "cannot be read";
    return strcmp(digest.hex, file->xxh3) != 0 ? "has another checksum" : NULL;
}

static facet_status verify_files(verify_job *job, facet_err *err)
{
    facet_doc_number(job->doc, "files", job->manifest.n_files);
    cJSON *checked = facet_doc_array(job->doc, "checked");
    for (uint32_t i = 0; i < job->manifest.n_files; i++) {
        const facet_manifest_file *file = &job->manifest.files[i];
        FACET_TRY(facet_report_progress(&job->tool->report, "verify files", i,
                                        job->manifest.n_files, err));
        const char *fault = file_fault(job, file);
        cJSON *item = facet_doc_push_object(checked);
        facet_doc_text(item, "file", file->name);
        facet_doc_bool(item, "ok", fault == NULL);
        if (fault == NULL) continue;
        job->n_bad_files++;
        facet_doc_text(item, "fault", fault);
        facet_output_warn(job->tool, "%s/%s: %s", job->path, file->name, fault);
    }
    return FACET_OK;
}

// ---- kernels
// --------------------------------------------------------------------------------------

static uint32_t family_index(const facet_manifest *manifest, const char *name)
{
    uint32_t i = 0;
    while (i + 1 < manifest->n_families && strcmp(manifest->families[i].name, name) != 0)
        i++;
    return i;
}

static facet_status check_kernel(verify_job *job, const facet_manifest_kernel *kernel, cJSON *item,
                                 facet_err *err)
{
    char path[4096];
    facet_check_spec spec;
    facet_check_result result = {0};
    facet_err why = {.offset = -1};
    FACET_TRY(facet_path_join(path, sizeof path, job->path, kernel->file, err));
    facet_bundle_check_spec(job->bundle, family_index(&job->manifest, kernel->family), &spec);
    facet_status status = facet_check_artifact(path, &spec, NULL, &result, &why);
    facet_doc_number(item, "max_abs_error", result.max_abs_error);
    facet_doc_number(item, "max_rel_error", result.max_rel_error);
    facet_doc_bool(item, "ok", status == FACET_OK);
    if (status == FACET_OK) return FACET_OK;
    if (status == FACET_NO_DEVICE) {
        facet_doc_text(item, "skipped", why.message);
        return FACET_OK;
    }
    if (status == FACET_NO_MEMORY || status == FACET_INTERRUPTED) {
        if (err != NULL) *err = why;
        return status;
    }
    job->n_bad_kernels++;
    facet_doc_text(item, "fault", why.message);
    facet_output_warn(job->tool, "%s", why.message);
    return FACET_OK;
}

static facet_status verify_kernel(verify_job *job, const facet_manifest_kernel *kernel, cJSON *item,
                                  facet_err *err)
{
    facet_doc_text(item, "key", kernel->key);
    facet_doc_text(item, "target", kernel->target);
    facet_doc_text(item, "family", kernel->family);
    const char *skip = NULL;
    if (!facet_isa_runs(kernel->target, job->tool->env.isa))
        skip = "this CPU cannot run the target";
    if (job->bundle == NULL) skip = "the bundle is damaged";
    if (skip == NULL) return check_kernel(job, kernel, item, err);
    facet_doc_number(item, "max_abs_error", 0);
    facet_doc_number(item, "max_rel_error", 0);
    facet_doc_bool(item, "ok", false);
    facet_doc_text(item, "skipped", skip);
    return FACET_OK;
}

static facet_status verify_kernels(verify_job *job, facet_err *err)
{
    // The reference needs the bundle's tables, not its kernels.
    facet_tool generic = *job->tool;
    generic.mode = FACET_TOOL_GENERIC;
    if (job->n_bad_files == 0)
        FACET_TRY(facet_resolve_bundle(&generic, job->path, &job->bundle, err));
    cJSON *kernels = facet_doc_array(job->doc, "kernels");
    for (uint32_t i = 0; i < job->manifest.n_kernels; i++) {
        FACET_TRY(facet_report_progress(&job->tool->report, "verify kernels", i,
                                        job->manifest.n_kernels, err));
        FACET_TRY(
            verify_kernel(job, &job->manifest.kernels[i], facet_doc_push_object(kernels), err));
    }
    return FACET_OK;
}

// ---- the command
// ----------------------------------------------------------------------------------

static facet_status finish(verify_job *job, facet_err *err)
{
    const bool ok = job->n_bad_files == 0 && job->n_bad_kernels == 0;
    facet_doc_bool(job->doc, "ok", ok);
    cJSON *doc = job->doc;
    job->doc = NULL;
    FACET_TRY(facet_output_document(job->tool, doc, err));
    if (ok) return FACET_OK;
    return facet_fail_at(err, FACET_CHECK, job->path, -1,
                         "%s: %u files and %u kernels are not as they should be; build it again",
                         job->path, job->n_bad_files, job->n_bad_kernels);
}

static facet_status run(facet_tool *tool, const void *opts, const facet_strings *args,
                        facet_err *err)
{
    (void)opts;
    verify_job job = {.tool = tool, .path = args->items[0]};
    facet_kind kind;
    FACET_TRY(facet_kind_find(job.path, &kind, err));
    if (kind != FACET_KIND_BUNDLE)
        return facet_fail_at(err, FACET_BAD_INPUT, job.path, -1,
                             "%s: is no bundle; name a directory that facet build made", job.path);
    FACET_TRY(facet_manifest_load(job.path, &job.manifest, err));
    job.doc = facet_doc_new();
    facet_status status = verify_files(&job, err);
    if (status == FACET_OK) status = verify_kernels(&job, err);
    if (status == FACET_OK) {
        // The document is the answer even when the answer is no.
        tool->answered = true;
        status = finish(&job, err);
    }
    cJSON_Delete(job.doc);
    facet_close(job.bundle);
    facet_manifest_fini(&job.manifest);
    return status;
}

const facet_command facet_command_verify = {
    .name = "verify",
    .summary = "Check every checksum of a bundle and every kernel against the reference.",
    .usage = "[options] BUNDLE",
    .example = "facet verify demo.facet --json",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
