// SPDX-License-Identifier: Apache-2.0
#include "tools/manifest_load.h"

#include "base/file.h"

enum { MANIFEST_MAX = 64 << 20 };

facet_status facet_manifest_load(const char *bundle, facet_manifest *manifest, facet_err *err)
{
    char path[4096];
    char *text;
    size_t bytes;
    FACET_TRY(facet_path_join(path, sizeof path, bundle, "manifest.json", err));
    FACET_TRY(facet_file_read(path, MANIFEST_MAX, NULL, &text, &bytes, err));
    facet_status status = facet_manifest_parse(text, bytes, path, NULL, manifest, err);
    facet_mem_free(NULL, text);
    return status;
}
