// SPDX-License-Identifier: Apache-2.0
// Opening and closing a bundle: whose directory it is, the manifest, sizes, kernel checksums,
// mappings.
#include "runtime/bundle.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/eval.h"
#include "runtime/isa.h"

const char *facet_version(void)
{
    return FACET_VERSION;
}

void facet_bundle_log(const facet_bundle *bundle, facet_level level, const char *format, ...)
{
    char text[512];
    if (!bundle->log.write) return;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    bundle->log.write(bundle->log.ctx, level, text);
}

// Loading kernels is running them: what others could have changed is not opened.
static facet_status check_owner(const char *path, bool directory, facet_err *err)
{
    struct stat info;
    if (stat(path, &info) != 0) return facet_fail_errno(err, errno, path, "open");
    if (directory && !S_ISDIR(info.st_mode))
        return facet_fail_at(err, FACET_BAD_INPUT, path, -1,
                             "%s: not a directory; name a bundle made by facet build", path);
    if (info.st_uid != 0 && info.st_uid != geteuid())
        return facet_fail_at(err, FACET_PERMISSION, path, -1,
                             "%s: owned by user %lu; a bundle must belong to you or to root", path,
                             (unsigned long)info.st_uid);
    if (info.st_mode & S_IWOTH)
        return facet_fail_at(err, FACET_PERMISSION, path, -1,
                             "%s: everybody may write it; run chmod -R o-w on the bundle", path);
    return FACET_OK;
}

static facet_status inside(const facet_bundle *bundle, const char *name, char *out, size_t capacity,
                           facet_err *err)
{
    return facet_path_join(out, capacity, bundle->path, name, err);
}

static facet_status read_manifest(facet_bundle *bundle, facet_err *err)
{
    char path[4096];
    char *text = NULL;
    size_t bytes = 0;
    FACET_TRY(inside(bundle, FACET_MANIFEST_FILE, path, sizeof path, err));
    FACET_TRY(check_owner(path, false, err));
    FACET_TRY(facet_file_read(path, FACET_MANIFEST_MAX, bundle->alloc, &text, &bytes, err));
    const facet_status status =
        facet_manifest_parse(text, bytes, path, bundle->alloc, &bundle->manifest, err);
    facet_mem_free(bundle->alloc, text);
    return status;
}

// The folder of "kernels/KEY.so" must be as private as the bundle itself.
static facet_status check_folder(const facet_bundle *bundle, const char *name, facet_err *err)
{
    char folder[sizeof((facet_manifest_file *)0)->name], path[4096];
    const char *slash = strchr(name, '/');
    if (!slash) return FACET_OK;
    memcpy(folder, name, (size_t)(slash - name));
    folder[slash - name] = '\0';
    FACET_TRY(inside(bundle, folder, path, sizeof path, err));
    return check_owner(path, true, err);
}

static facet_status check_files(const facet_bundle *bundle, facet_err *err)
{
    for (uint32_t i = 0; i < bundle->manifest.n_files; i++) {
        const facet_manifest_file *file = &bundle->manifest.files[i];
        char path[4096];
        uint64_t bytes = 0;
        FACET_TRY(check_folder(bundle, file->name, err));
        FACET_TRY(inside(bundle, file->name, path, sizeof path, err));
        FACET_TRY(check_owner(path, false, err));
        FACET_TRY(facet_path_size(path, &bytes, err));
        if (bytes != file->bytes)
            return facet_fail_at(err, FACET_BAD_FILE, path, -1,
                                 "%s: has %llu bytes, the manifest says %llu; build the bundle "
                                 "again",
                                 path, (unsigned long long)bytes, (unsigned long long)file->bytes);
    }
    return FACET_OK;
}

static facet_status check_kernels(const facet_bundle *bundle, facet_err *err)
{
    for (uint32_t i = 0; i < bundle->manifest.n_kernels; i++) {
        const char *name = bundle->manifest.kernels[i].file;
        const facet_manifest_file *file = facet_manifest_find_file(&bundle->manifest, name);
        char path[4096];
        facet_digest digest;
        FACET_TRY(inside(bundle, name, path, sizeof path, err));
        FACET_TRY(facet_hash_file(path, &digest, err));
        if (strcmp(digest.hex, file->xxh3) != 0)
            return facet_fail_at(err, FACET_BAD_FILE, path, -1,
                                 "%s: its checksum differs from the manifest's; build the bundle "
                                 "again",
                                 path);
    }
    return FACET_OK;
}

// Maps a listed file and makes sure that it is as long as the manifest says: all offsets were
// checked against that length.
static facet_status map_file(const facet_bundle *bundle, const char *name, facet_map *map,
                             facet_err *err)
{
    char path[4096];
    const facet_manifest_file *file = facet_manifest_find_file(&bundle->manifest, name);
    if (!file)
        return facet_fail_at(err, FACET_BAD_FILE, bundle->path, -1,
                             "%s: the manifest lists no %s; build the bundle again", bundle->path,
                             name);
    FACET_TRY(inside(bundle, name, path, sizeof path, err));
    FACET_TRY(facet_map_open(path, map, err));
    if (map->bytes == file->bytes) return FACET_OK;
    facet_map_close(map);
    return facet_fail_at(err, FACET_BAD_FILE, path, -1, "%s: changed while being opened; try again",
                         path);
}

static facet_status load_tokenizer(facet_bundle *bundle, facet_err *err)
{
    facet_map map = {0};
    FACET_TRY(map_file(bundle, "tokenizer.bin", &map, err));
    facet_status status = facet_tokenizer_load(map.data, map.bytes, "tokenizer.bin", bundle->alloc,
                                               &bundle->tokenizer, err);
    facet_map_close(&map);
    return status;
}

static facet_status open_all(facet_bundle *bundle, facet_err *err)
{
    const facet_manifest *manifest = &bundle->manifest;
    FACET_TRY(check_owner(bundle->path, true, err));
    FACET_TRY(read_manifest(bundle, err));
    FACET_TRY(check_files(bundle, err));
    FACET_TRY(check_kernels(bundle, err));
    FACET_TRY(load_tokenizer(bundle, err));
    FACET_TRY(map_file(bundle, "weights.bin", &bundle->weights, err));
    bundle->families = facet_mem_new(bundle->alloc, manifest->n_families, sizeof(facet_family));
    if (!bundle->families)
        return facet_fail_memory(err, manifest->n_families * sizeof(facet_family));
    for (uint32_t i = 0; i < manifest->n_families; i++) {
        facet_family *family = &bundle->families[i];
        family->facts = &manifest->families[i];
        if (family->facts->file[0])
            FACET_TRY(map_file(bundle, family->facts->file, &family->map, err));
    }
    FACET_TRY(facet_bundle_layers(bundle, err));
    for (uint32_t i = 0; i < manifest->n_families; i++)
        FACET_TRY(facet_variant_open(bundle, &bundle->families[i], err));
    return FACET_OK;
}

static facet_status set_options(facet_bundle *bundle, const char *path, const facet_open_opts *opts,
                                facet_err *err)
{
    if (opts->alloc) {
        bundle->alloc_store = *opts->alloc;
        bundle->alloc = &bundle->alloc_store;
    }
    if (opts->log) bundle->log = *opts->log;
    bundle->mode = opts->mode;
    bundle->n_threads = opts->n_threads;
    bundle->path = facet_mem_strdup(bundle->alloc, path);
    if (!bundle->path) return facet_fail_memory(err, strlen(path) + 1);
    if (!opts->isa) return FACET_OK;
    if (!facet_isa_known(opts->isa))
        return facet_fail(err, FACET_BAD_INPUT,
                          "target %s: no such target; name one of x86-64-v3, avx-vnni, x86-64-v4, "
                          "avx512-vnni, avx512-bf16 or generic",
                          opts->isa);
    bundle->isa = facet_mem_strdup(bundle->alloc, opts->isa);
    return bundle->isa ? FACET_OK : facet_fail_memory(err, strlen(opts->isa) + 1);
}

facet_status facet_open(const char *path, const facet_open_opts *opts, facet_bundle **out,
                        facet_err *err)
{
    static const facet_open_opts defaults = {0};
    if (!opts) opts = &defaults;
    facet_bundle *bundle = facet_mem_new(opts->alloc, 1, sizeof *bundle);
    if (!bundle) return facet_fail_memory(err, sizeof *bundle);
    facet_status status = set_options(bundle, path, opts, err);
    if (status == FACET_OK) status = open_all(bundle, err);
    if (status != FACET_OK) {
        facet_close(bundle);
        return status;
    }
    *out = bundle;
    return FACET_OK;
}

void facet_close(facet_bundle *bundle)
{
    if (!bundle) return;
    const facet_alloc store = bundle->alloc_store;
    const facet_alloc *alloc = bundle->alloc ? &store : NULL;
    for (uint32_t i = 0; bundle->families && i < bundle->manifest.n_families; i++) {
        facet_family *family = &bundle->families[i];
        facet_variant_close(bundle, &family->variant);
        facet_map_close(&family->map);
        facet_mem_free(alloc, family->layers);
        facet_mem_free(alloc, family->tiles);
    }
    facet_mem_free(alloc, bundle->families);
    facet_mem_free(alloc, bundle->perm);
    facet_tokenizer_free(bundle->tokenizer);
    facet_map_close(&bundle->weights);
    facet_manifest_fini(&bundle->manifest);
    facet_mem_free(alloc, bundle->isa);
    facet_mem_free(alloc, bundle->path);
    facet_mem_free(alloc, bundle);
}

// ---- facts --------------------------------------------------------------------------------------

uint32_t facet_family_count(const facet_bundle *bundle)
{
    return bundle->manifest.n_families;
}

const char *facet_family_name(const facet_bundle *bundle, uint32_t family)
{
    return family < bundle->manifest.n_families ? bundle->manifest.families[family].name : NULL;
}

uint32_t facet_vocab(const facet_bundle *bundle)
{
    return bundle->manifest.model.n_vocab;
}

uint32_t facet_context(const facet_bundle *bundle)
{
    return bundle->manifest.model.n_ctx;
}

const facet_manifest *facet_bundle_manifest(const facet_bundle *bundle)
{
    return &bundle->manifest;
}

const facet_tokenizer *facet_bundle_tokenizer(const facet_bundle *bundle)
{
    return bundle->tokenizer;
}

const char *facet_bundle_target(const facet_bundle *bundle, uint32_t family)
{
    return bundle->families[family].variant.target;
}

void facet_bundle_check_spec(const facet_bundle *bundle, uint32_t family, facet_check_spec *spec)
{
    *spec = (facet_check_spec){
        .shape = bundle->shape, .layers = bundle->families[family].layers, .head = bundle->head};
}
