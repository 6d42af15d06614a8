// SPDX-License-Identifier: Apache-2.0
// What stands beside tokenizer.json in a model's directory: tokenizer_config.json (special tokens,
// chat template) and chat_template.jinja.
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "model/tokenizer_json.h"

#define MAX_FILE_BYTES ((size_t)256 << 20)

// The id of a special token that is given as its text or as {"content": text}.
static int64_t named_id(const facet_tokenizer *t, const cJSON *config, const char *name)
{
    const cJSON *item = facet_json_find(config, name);
    if (cJSON_IsObject(item)) item = facet_json_find(item, "content");
    if (!cJSON_IsString(item)) return -1;
    const uint32_t id = facet_vocab_find(t, item->valuestring, strlen(item->valuestring));
    return id == FACET_NO_TOKEN ? -1 : (int64_t)id;
}

static const cJSON *first_of(const cJSON *array)
{
    return cJSON_IsArray(array) ? array->child : NULL;
}

// The special token that a TemplateProcessing step puts first, or NULL.
static const char *template_first(const cJSON *step)
{
    const cJSON *type = facet_json_find(step, "type");
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "TemplateProcessing") != 0) return NULL;
    const cJSON *part = first_of(facet_json_find(step, "single"));
    const cJSON *id = facet_json_find(facet_json_find(part, "SpecialToken"), "id");
    return cJSON_IsString(id) ? id->valuestring : NULL;
}

// The token that the post-processor of tokenizer.json puts before a text, or NULL.
static const char *processor_first(const cJSON *document)
{
    const cJSON *processor = facet_json_find(document, "post_processor"), *step;
    const char *text = template_first(processor);
    cJSON_ArrayForEach(step, facet_json_find(processor, "processors"))
    {
        if (!text) text = template_first(step);
    }
    return text;
}

static void read_bos(facet_tokenizer *t, const cJSON *document, const cJSON *config)
{
    const char *first = processor_first(document);
    const uint32_t id = first ? facet_vocab_find(t, first, strlen(first)) : FACET_NO_TOKEN;
    const cJSON *add = facet_json_find(config, "add_bos_token");
    t->bos = named_id(t, config, "bos_token");
    if (t->bos < 0 && id != FACET_NO_TOKEN) t->bos = id;
    t->add_bos = t->engine == FACET_ENGINE_CHARS || t->pretoken == FACET_PRETOKEN_LLAMA3;
    if (first) t->add_bos = id != FACET_NO_TOKEN && (int64_t)id == t->bos;
    if (cJSON_IsBool(add)) t->add_bos = cJSON_IsTrue(add);
    if (t->bos < 0) t->add_bos = false;
}

// A text, or a list of {"name", "template"} of which "default" counts.
static const char *template_of(const cJSON *config)
{
    const cJSON *item = facet_json_find(config, "chat_template"), *entry;
    if (cJSON_IsString(item)) return item->valuestring;
    cJSON_ArrayForEach(entry, item)
    {
        const cJSON *name = facet_json_find(entry, "name");
        const cJSON *text = facet_json_find(entry, "template");
        if (cJSON_IsString(name) && cJSON_IsString(text) &&
            strcmp(name->valuestring, "default") == 0)
            return text->valuestring;
    }
    return NULL;
}

static facet_status read_parsed(const facet_tokenizer_texts *texts, const cJSON *document,
                                const cJSON *config, facet_tokenizer *t, facet_err *err)
{
    const facet_vocab_ids ids = FACET_VOCAB_IDS_NONE;
    read_bos(t, document, config);
    t->eos = named_id(t, config, "eos_token");
    t->unknown = named_id(t, facet_json_find(document, "model"), "unk_token");
    FACET_TRY(facet_vocab_name(t, &ids, err));
    const char *chat = template_of(config);
    if (texts->chat)
        return facet_chat_detect(texts->chat, texts->chat_bytes, t->alloc, &t->chat, err);
    return chat ? facet_chat_detect(chat, strlen(chat), t->alloc, &t->chat, err) : FACET_OK;
}

facet_status facet_tokenizer_read_config(const facet_tokenizer_texts *texts, const cJSON *document,
                                         facet_tokenizer *t, facet_err *err)
{
    cJSON *config = NULL;
    if (texts->config)
        FACET_TRY(facet_json_parse(texts->config, texts->config_bytes, texts->file, &config, err));
    const facet_status status = read_parsed(texts, document, config, t, err);
    cJSON_Delete(config);
    return status;
}

// ---- the directory ----------------------------------------------------------------------------

// Reads directory/name; a missing file leaves *text NULL when it is not `required`.
static facet_status read_file(const char *directory, const char *name, bool required,
                              const facet_alloc *alloc, char **text, size_t *bytes, facet_err *err)
{
    char path[4096];
    FACET_TRY(facet_path_join(path, sizeof path, directory, name, err));
    if (!required && !facet_path_exists(path)) return FACET_OK;
    return facet_file_read(path, MAX_FILE_BYTES, alloc, text, bytes, err);
}

facet_status facet_tokenizer_from_directory(const char *directory, uint32_t limit,
                                            facet_tokenizer *t, facet_err *err)
{
    char *tokenizer = NULL, *config = NULL, *chat = NULL, path[4096];
    facet_tokenizer_texts texts = {.file = path, .limit = limit};
    facet_status status = facet_path_join(path, sizeof path, directory, "tokenizer.json", err);
    if (status != FACET_OK) return status;
    FACET_TRY_GOTO(read_file(directory, "tokenizer.json", true, t->alloc, &tokenizer,
                             &texts.tokenizer_bytes, err),
                   done);
    FACET_TRY_GOTO(read_file(directory, "tokenizer_config.json", false, t->alloc, &config,
                             &texts.config_bytes, err),
                   done);
    FACET_TRY_GOTO(
        read_file(directory, "chat_template.jinja", false, t->alloc, &chat, &texts.chat_bytes, err),
        done);
    texts.tokenizer = tokenizer;
    texts.config = config;
    texts.chat = chat;
    status = facet_tokenizer_from_json(&texts, t, err);
done:
    facet_mem_free(t->alloc, chat);
    facet_mem_free(t->alloc, config);
    facet_mem_free(t->alloc, tokenizer);
    return status;
}
