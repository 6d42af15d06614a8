// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "base/memory.h"
#include "tools/output.h"
#include "tools/resolve.h"

typedef struct cache_opts {
    const char *limit;
} cache_opts;

static const cache_opts defaults = {0};
#define FIELD(field) offsetof(cache_opts, field)
static const facet_option options[] = {
    FACET_OPT_TEXT(
        "--limit", NULL, FIELD(limit), "SIZE",
        "trim: remove the least recently used entries until this is left; K, M and G are "
        "powers of 1024 (10G)."),
    FACET_OPT_END,
};

typedef struct cache_job {
    const facet_tool *tool;
    const cache_opts *opts;
    const facet_strings *args;
    facet_cache *cache;
    cJSON *doc;
} cache_job;

static facet_status parse_size(const char *text, uint64_t *out, facet_err *err)
{
    static const char units[] = "KMG";
    char digits[24];
    size_t n = strlen(text);
    const char *unit = n > 0 ? strchr(units, text[n - 1]) : NULL;
    uint64_t value = 0, scale = 1;
    if (unit != NULL) {
        scale <<= 10 * (unit - units + 1);
        n--;
    }
    bool ok = n > 0 && n < sizeof digits;
    if (ok) {
        memcpy(digits, text, n);
        digits[n] = '\0';
        ok = facet_parse_u64(digits, &value) && value <= UINT64_MAX / scale;
    }
    if (!ok)
        return facet_fail(err, FACET_USAGE, "--limit %.80s: is no size; write for example 512M",
                          text);
    *out = value * scale;
    return FACET_OK;
}

static facet_status do_path(cache_job *job, facet_err *err)
{
    (void)err;
    facet_doc_text(job->doc, "path", facet_cache_root(job->cache));
    return FACET_OK;
}

static facet_status do_stats(cache_job *job, facet_err *err)
{
    facet_cache_stats stats;
    FACET_TRY(facet_cache_get_stats(job->cache, &stats, err));
    facet_doc_text(job->doc, "path", facet_cache_root(job->cache));
    const struct {
        const char *name;
        uint64_t value;
    } facts[] = {
        {"entries", stats.entries},         {"bytes", stats.bytes},
        {"limit_bytes", stats.limit_bytes}, {"hits", stats.hits},
        {"misses", stats.misses},           {"compiled", stats.compiled},
        {"rejected", stats.rejected},       {"quarantined", stats.quarantined},
        {"evicted", stats.evicted},
    };
    for (size_t i = 0; i < FACET_COUNT_OF(facts); i++)
        facet_doc_number(job->doc, facts[i].name, (double)facts[i].value);
    return FACET_OK;
}

static facet_status do_list(cache_job *job, facet_err *err)
{
    facet_cache_item *items = NULL;
    size_t n = 0;
    FACET_TRY(facet_cache_list(job->cache, &items, &n, err));
    facet_doc_text(job->doc, "path", facet_cache_root(job->cache));
    cJSON *entries = facet_doc_array(job->doc, "entries");
    for (size_t i = 0; i < n; i++) {
        cJSON *item = facet_doc_push_object(entries);
        facet_doc_text(item, "key", items[i].key);
        facet_doc_number(item, "bytes", (double)items[i].bytes);
        facet_doc_number(item, "used", (double)items[i].used);
        facet_doc_text(item, "title", items[i].title);
    }
    facet_mem_free(NULL, items);
    return FACET_OK;
}

static facet_status do_verify(cache_job *job, facet_err *err)
{
    uint64_t good, bad;
    FACET_TRY(facet_cache_verify(job->cache, &good, &bad, err));
    facet_doc_number(job->doc, "good", (double)good);
    facet_doc_number(job->doc, "bad", (double)bad);
    facet_doc_bool(job->doc, "ok", bad == 0);
    if (bad > 0)
        facet_output_warn(job->tool, "%s: %llu damaged entries were put into quarantine",
                          facet_cache_root(job->cache), (unsigned long long)bad);
    return FACET_OK;
}

static facet_status do_trim(cache_job *job, facet_err *err)
{
    uint64_t limit = 10ull << 30, removed;
    if (job->opts->limit != NULL) FACET_TRY(parse_size(job->opts->limit, &limit, err));
    FACET_TRY(facet_cache_trim(job->cache, limit, &removed, err));
    facet_doc_number(job->doc, "removed", (double)removed);
    facet_doc_number(job->doc, "limit_bytes", (double)limit);
    return FACET_OK;
}

static facet_status do_clear(cache_job *job, facet_err *err)
{
    FACET_TRY(facet_cache_clear(job->cache, err));
    facet_doc_text(job->doc, "path", facet_cache_root(job->cache));
    facet_doc_bool(job->doc, "cleared", true);
    return FACET_OK;
}

static facet_status do_explain(cache_job *job, facet_err *err)
{
    for (size_t i = 1; i <= 2; i++)
        if (!facet_digest_valid(job->args->items[i]))
            return facet_fail(err, FACET_USAGE, "%.80s: is no key; take two from facet cache list",
                              job->args->items[i]);
    facet_text text;
    facet_text_init(&text, NULL);
    facet_status status =
        facet_cache_explain(job->cache, job->args->items[1], job->args->items[2], &text, err);
    if (status == FACET_OK) status = facet_text_status(&text, err);
    if (status == FACET_OK) {
        facet_doc_text(job->doc, "a", job->args->items[1]);
        facet_doc_text(job->doc, "b", job->args->items[2]);
        facet_doc_text(job->doc, "difference", facet_text_str(&text));
    }
    facet_text_fini(&text);
    return status;
}

static const struct cache_action {
    const char *name;
    size_t n_args; // itself included
    const char
        *bare; // the one field that text output consists of, for $(facet cache path); or NULL
    facet_status (*run)(cache_job *job, facet_err *err);
} actions[] = {
    {"path", 1, "path", do_path},
    {"stats", 1, NULL, do_stats},
    {"list", 1, NULL, do_list},
    {"verify", 1, NULL, do_verify},
    {"trim", 1, NULL, do_trim},
    {"clear", 1, NULL, do_clear},
    {"explain", 3, "difference", do_explain},
};

// Takes the document.
static facet_status print(cache_job *job, const char *bare, facet_err *err)
{
    cJSON *doc = job->doc;
    job->doc = NULL;
    if (bare == NULL || job->tool->json) return facet_output_document(job->tool, doc, err);
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, bare));
    const size_t n = text != NULL ? strlen(text) : 0;
    facet_status status = facet_output_write(text, n, err);
    if (status == FACET_OK && n > 0 && text[n - 1] != '\n')
        status = facet_output_write("\n", 1, err);
    if (status == FACET_OK) status = facet_output_flush(err);
    cJSON_Delete(doc);
    return status;
}

static facet_status run_action(const struct cache_action *action, cache_job *job, facet_err *err)
{
    FACET_TRY(facet_tool_cache(job->tool, &job->cache, err));
    job->doc = facet_doc_new();
    facet_status status = action->run(job, err);
    if (status == FACET_OK) status = print(job, action->bare, err);
    cJSON_Delete(job->doc);
    facet_cache_close(job->cache);
    return status;
}

static facet_status run(facet_tool *tool, const void *opts, const facet_strings *args,
                        facet_err *err)
{
    cache_job job = {.tool = tool, .opts = opts, .args = args};
    for (size_t i = 0; i < FACET_COUNT_OF(actions); i++) {
        if (strcmp(actions[i].name, args->items[0]) != 0) continue;
        if (args->n != actions[i].n_args)
            return facet_fail(err, FACET_USAGE,
                              "cache %s: takes %zu arguments; see facet cache --help",
                              actions[i].name, actions[i].n_args - 1);
        return run_action(&actions[i], &job, err);
    }
    return facet_fail(
        err, FACET_USAGE,
        "cache %.80s: is none of path, stats, list, verify, trim, clear, explain; see "
        "facet cache --help",
        args->items[0]);
}

const facet_command facet_command_cache = {
    .name = "cache",
    .summary = "Look after the cache of compiled code.",
    .usage = "[options] path|stats|list|verify|trim|clear|explain KEY KEY",
    .example = "facet cache stats --json",
    .options = options,
    .defaults = &defaults,
    .bytes = sizeof defaults,
    .min_args = 1,
    .max_args = 3,
    .run = run,
};
