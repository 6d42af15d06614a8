// SPDX-License-Identifier: Apache-2.0
#include "tools/tokenizer_open.h"

#include "base/file.h"
#include "tools/resolve.h"

static facet_status from_model(const char *path, facet_tokenizer **tokenizer, facet_err *err)
{
    facet_model *model;
    FACET_TRY(facet_model_open(path, NULL, &model, err));
    facet_status status = facet_tokenizer_new(model, tokenizer, err);
    facet_model_close(model);
    return status;
}

static facet_status from_bundle(const char *path, facet_tokenizer **tokenizer, facet_err *err)
{
    char file[4096];
    facet_map map;
    FACET_TRY(facet_path_join(file, sizeof file, path, "tokenizer.bin", err));
    FACET_TRY(facet_map_open(file, &map, err));
    facet_status status = facet_tokenizer_load(map.data, map.bytes, file, NULL, tokenizer, err);
    facet_map_close(&map);
    return status;
}

facet_status facet_tokenizer_open(const char *path, facet_tokenizer **tokenizer, facet_err *err)
{
    facet_kind kind;
    FACET_TRY(facet_kind_find(path, &kind, err));
    if (kind == FACET_KIND_MODEL) return from_model(path, tokenizer, err);
    if (kind == FACET_KIND_BUNDLE) return from_bundle(path, tokenizer, err);
    return facet_fail_at(err, FACET_BAD_INPUT, path, -1,
                         "%s: has no tokenizer; name a model or a bundle", path);
}
