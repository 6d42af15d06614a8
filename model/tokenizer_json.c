// SPDX-License-Identifier: Apache-2.0
// The vocabulary of a tokenizer.json: byte-level BPE whose pre-tokenizer is one of ours, and BPE
// over characters with byte fallback (Gemma, Llama 2, Mistral). Everything else is refused by name.
// The Unicode normaliser NFC is not applied: llama.cpp does not apply it either.
//
//     vocab + added_tokens --(by id)--> rows --> tokens, types;  merges by text
#include <string.h>

#include "base/json.h"
#include "model/tokenizer_json.h"
#include "model/tokenizer_parts.h"

typedef struct row {
    const char *text; // NULL: no token has this id
    uint8_t type;
} row;

typedef struct reader {
    const facet_tokenizer_texts *texts;
    const char *file;
    facet_tokenizer *t;
    const cJSON *document, *model;
    row *rows;
    uint32_t n_rows;
    facet_err *err;
} reader;

static facet_status bad(const reader *r, int64_t record, const char *what)
{
    return facet_fail_at(r->err, FACET_BAD_FILE, r->file, record,
                         "%s: %s; fetch the model's file anew", r->file, what);
}

static facet_status unsupported(const reader *r, const char *what, const char *value)
{
    return facet_fail_at(r->err, FACET_UNSUPPORTED, r->file, -1,
                         "%s: %s \"%.200s\" is not supported; convert the model to GGUF", r->file,
                         what, value);
}

static const char *type_of(const cJSON *object)
{
    const cJSON *type = facet_json_find(object, "type");
    return cJSON_IsString(type) ? type->valuestring : "";
}

static bool is_type(const cJSON *object, const char *type)
{
    return strcmp(type_of(object), type) == 0;
}

static bool is_true(const cJSON *object, const char *name)
{
    return cJSON_IsTrue(facet_json_find(object, name));
}

// ---- pre-tokenizer and normaliser -------------------------------------------------------------

// One step of a pre-tokenizer, or a Sequence of steps.
typedef struct steps {
    const cJSON *list[4];
    int n; // -1: too many
} steps;

static steps steps_of(const cJSON *object, const char *field)
{
    steps s = {{0}, 0};
    if (!cJSON_IsObject(object)) return s;
    if (!is_type(object, "Sequence")) return (steps){{object}, 1};
    const cJSON *step;
    cJSON_ArrayForEach(step, facet_json_find(object, field))
    {
        if (s.n == (int)FACET_COUNT_OF(s.list)) return (steps){{0}, -1};
        s.list[s.n++] = step;
    }
    return s;
}

static const char *regex_of(const cJSON *split)
{
    const cJSON *regex = facet_json_find(facet_json_find(split, "pattern"), "Regex");
    return cJSON_IsString(regex) ? regex->valuestring : "";
}

// The pre-tokenizers of byte-level models: ByteLevel alone (with its regex: GPT-2), after a Split
// by a known regex, or (with its regex) after single digits.
static facet_status byte_level(reader *r, const steps *s)
{
    const cJSON *last = s->list[s->n - 1];
    const cJSON *use = facet_json_find(last, "use_regex");
    const bool use_regex = !cJSON_IsFalse(use); // absent means true
    if (is_true(last, "add_prefix_space"))
        return unsupported(r, "pre-tokenizer", "ByteLevel with add_prefix_space");
    facet_pretoken *out = &r->t->pretoken;
    if (s->n == 1) {
        *out = FACET_PRETOKEN_GPT2;
        return use_regex ? FACET_OK : unsupported(r, "pre-tokenizer", "ByteLevel without a regex");
    }
    const cJSON *first = s->list[0];
    if (s->n != 2) return unsupported(r, "pre-tokenizer", "Sequence of more than two steps");
    if (use_regex) {
        const bool digits = (is_type(first, "Digits") && is_true(first, "individual_digits")) ||
                            (is_type(first, "Split") && strcmp(regex_of(first), "\\p{N}") == 0);
        *out = FACET_PRETOKEN_SMOLLM;
        return digits ? FACET_OK : unsupported(r, "pre-tokenizer", type_of(first));
    }
    if (!is_type(first, "Split")) return unsupported(r, "pre-tokenizer", type_of(first));
    const cJSON *behavior = facet_json_find(first, "behavior");
    if (!cJSON_IsString(behavior) || strcmp(behavior->valuestring, "Isolated") != 0 ||
        is_true(first, "invert") || !facet_pretoken_find_regex(regex_of(first), out))
        return unsupported(r, "pre-tokenizer regex", regex_of(first));
    return FACET_OK;
}

// The normalisers of character models: every space becomes U+2581, perhaps one more is put first.
static facet_status spaces(reader *r, const steps *normalizer, const steps *pre)
{
    bool replaced = false;
    for (int i = 0; i < normalizer->n; i++) {
        const cJSON *step = normalizer->list[i];
        if (is_type(step, "Prepend"))
            r->t->space_prefix = true;
        else if (is_type(step, "Replace"))
            replaced = true;
        else
            return unsupported(r, "normalizer", type_of(step));
    }
    for (int i = 0; i < pre->n; i++) {
        const cJSON *step = pre->list[i];
        const cJSON *scheme = facet_json_find(step, "prepend_scheme");
        if (is_type(step, "Metaspace")) {
            replaced = true;
            if (is_true(step, "split") ||
                (cJSON_IsString(scheme) && strcmp(scheme->valuestring, "never") != 0 &&
                 strcmp(scheme->valuestring, "first") != 0))
                return unsupported(r, "pre-tokenizer", "Metaspace with split or prefix always");
            if (cJSON_IsString(scheme) ? strcmp(scheme->valuestring, "first") == 0
                                       : is_true(step, "add_prefix_space"))
                r->t->space_prefix = true;
        } else if (!replaced || !is_type(step, "Split")) {
            // Gemma splits at spaces, of which the normaliser has left none.
            return unsupported(r, "pre-tokenizer", type_of(step));
        }
    }
    return replaced ? FACET_OK : unsupported(r, "normalizer", "none, with byte_fallback");
}

static facet_status read_kind(reader *r)
{
    const steps pre = steps_of(facet_json_find(r->document, "pre_tokenizer"), "pretokenizers");
    const steps normalizer = steps_of(facet_json_find(r->document, "normalizer"), "normalizers");
    if (!is_type(r->model, "BPE")) return unsupported(r, "model type", type_of(r->model));
    if (pre.n < 0 || normalizer.n < 0) return unsupported(r, "Sequence", "of more than four steps");
    if (pre.n > 0 && is_type(pre.list[pre.n - 1], "ByteLevel")) {
        r->t->engine = FACET_ENGINE_BYTES;
        for (int i = 0; i < normalizer.n; i++) {
            if (!is_type(normalizer.list[i], "NFC"))
                return unsupported(r, "normalizer", type_of(normalizer.list[i]));
        }
        FACET_TRY(byte_level(r, &pre));
        r->t->ignore_merges = is_true(r->model, "ignore_merges");
        return FACET_OK;
    }
    if (!is_true(r->model, "byte_fallback"))
        return unsupported(r, "pre-tokenizer", pre.n ? type_of(pre.list[pre.n - 1]) : "none");
    r->t->engine = FACET_ENGINE_CHARS;
    return spaces(r, &normalizer, &pre);
}

// ---- tokens -----------------------------------------------------------------------------------

static bool id_of(const cJSON *item, uint32_t *id)
{
    if (!cJSON_IsNumber(item)) return false;
    const double value = item->valuedouble;
    if (!(value >= 0) || value >= FACET_TOKENS_MAX) return false;
    *id = (uint32_t)value;
    return (double)*id == value;
}

// Rows for all ids of both lists, below the limit.
static facet_status make_rows(reader *r, const cJSON *vocab, const cJSON *added)
{
    const cJSON *item;
    uint32_t id;
    cJSON_ArrayForEach(item, vocab)
    {
        if (!id_of(item, &id)) return bad(r, -1, "an id of the vocabulary is no number below 2^24");
        if (id >= r->texts->limit)
            return facet_fail_at(r->err, FACET_MISMATCH, r->file, id,
                                 "%s: token id %u but embeddings for %u; the files do not belong "
                                 "together",
                                 r->file, id, r->texts->limit);
        if (id >= r->n_rows) r->n_rows = id + 1;
    }
    cJSON_ArrayForEach(item, added)
    {
        if (!id_of(facet_json_find(item, "id"), &id))
            return bad(r, -1, "the id of an added token is no number below 2^24");
        // Text-only models keep added tokens of their multimodal kin that have no embedding.
        if (id < r->texts->limit && id >= r->n_rows) r->n_rows = id + 1;
    }
    r->rows = facet_mem_new(r->t->alloc, r->n_rows, sizeof *r->rows);
    return r->rows ? FACET_OK : facet_fail_memory(r->err, r->n_rows * sizeof *r->rows);
}

static facet_status fill_rows(reader *r, const cJSON *vocab, const cJSON *added)
{
    const cJSON *item;
    uint32_t id;
    cJSON_ArrayForEach(item, vocab)
    {
        if (!id_of(item, &id)) continue;
        if (r->rows[id].text) return bad(r, id, "two tokens have the same id");
        r->rows[id] = (row){item->string, FACET_TOKEN_NORMAL};
    }
    cJSON_ArrayForEach(item, added)
    {
        const cJSON *content = facet_json_find(item, "content");
        if (!id_of(facet_json_find(item, "id"), &id) || id >= r->texts->limit) continue;
        if (!cJSON_IsString(content)) return bad(r, id, "an added token has no content");
        if (r->rows[id].text && strcmp(r->rows[id].text, content->valuestring) != 0)
            return bad(r, id, "an added token has the id of another token");
        const bool special = is_true(item, "special");
        r->rows[id] = (row){content->valuestring, special ? FACET_TOKEN_CONTROL : FACET_TOKEN_USER};
    }
    return FACET_OK;
}

static bool is_byte_token(const char *text)
{
    return strlen(text) == FACET_BYTE_TOKEN_BYTES && memcmp(text, "<0x", 3) == 0 && text[5] == '>';
}

// User tokens are sought in the text before spaces become U+2581.
static facet_status add_user(reader *r, const char *text)
{
    facet_text spaced;
    facet_text_init(&spaced, r->t->alloc);
    while (*text) {
        const bool mark = strncmp(text, "\xe2\x96\x81", 3) == 0;
        facet_text_put(&spaced, mark ? " " : text, 1);
        text += mark ? 3 : 1;
    }
    facet_status status = facet_text_status(&spaced, r->err);
    if (status == FACET_OK)
        status = facet_vocab_add(r->t, facet_text_str(&spaced), spaced.length, 0, FACET_TOKEN_USER,
                                 r->file, r->err);
    facet_text_fini(&spaced);
    return status;
}

static facet_status add_row(reader *r, const row *entry)
{
    facet_tokenizer *t = r->t;
    if (!entry->text) return facet_vocab_add(t, "", 0, 0, FACET_TOKEN_UNUSED, r->file, r->err);
    const size_t bytes = strlen(entry->text);
    if (t->engine == FACET_ENGINE_BYTES && entry->type == FACET_TOKEN_NORMAL)
        return facet_vocab_add_alphabet(t, entry->text, bytes, r->file, r->err);
    if (t->engine == FACET_ENGINE_CHARS && entry->type == FACET_TOKEN_USER)
        return add_user(r, entry->text);
    const bool byte = t->engine == FACET_ENGINE_CHARS && entry->type == FACET_TOKEN_NORMAL &&
                      is_byte_token(entry->text);
    const facet_token_type type = byte ? FACET_TOKEN_BYTE : (facet_token_type)entry->type;
    return facet_vocab_add(t, entry->text, bytes, 0, type, r->file, r->err);
}

static facet_status read_tokens(reader *r)
{
    const cJSON *vocab, *added = facet_json_find(r->document, "added_tokens");
    FACET_TRY(facet_json_object(r->model, "vocab", r->file, &vocab, r->err));
    FACET_TRY(make_rows(r, vocab, added));
    FACET_TRY(fill_rows(r, vocab, added));
    for (uint32_t id = 0; id < r->n_rows; id++)
        FACET_TRY(add_row(r, &r->rows[id]));
    return facet_vocab_index(r->t, r->file, r->err);
}

// ---- merges -----------------------------------------------------------------------------------

static facet_status add_merge(reader *r, const char *left, size_t left_bytes, const char *right)
{
    const size_t right_bytes = strlen(right);
    return r->t->engine == FACET_ENGINE_BYTES
               ? facet_vocab_add_merge_alphabet(r->t, left, left_bytes, right, right_bytes, r->file,
                                                r->err)
               : facet_vocab_add_merge(r->t, left, left_bytes, right, right_bytes, r->file, r->err);
}

// "left right" in older files, ["left", "right"] in newer ones.
static facet_status read_merges(reader *r)
{
    const cJSON *merges, *item;
    FACET_TRY(facet_json_array(r->model, "merges", r->file, &merges, r->err));
    cJSON_ArrayForEach(item, merges)
    {
        const cJSON *left = cJSON_GetArrayItem(item, 0), *right = cJSON_GetArrayItem(item, 1);
        if (cJSON_IsString(item)) {
            const char *text = item->valuestring;
            const char *space = text[0] ? strchr(text + 1, ' ') : NULL;
            if (!space) return bad(r, r->t->n_merges, "a merge has no space");
            FACET_TRY(add_merge(r, text, (size_t)(space - text), space + 1));
        } else if (cJSON_IsString(left) && cJSON_IsString(right)) {
            FACET_TRY(
                add_merge(r, left->valuestring, strlen(left->valuestring), right->valuestring));
        } else {
            return bad(r, r->t->n_merges, "a merge is neither a text nor a pair of texts");
        }
    }
    return FACET_OK;
}

static facet_status read_document(reader *r)
{
    FACET_TRY(facet_json_object(r->document, "model", r->file, &r->model, r->err));
    FACET_TRY(read_kind(r));
    FACET_TRY(read_tokens(r));
    FACET_TRY(read_merges(r));
    FACET_TRY(facet_tokenizer_read_config(r->texts, r->document, r->t, r->err));
    return facet_tokenizer_finish(r->t, r->file, r->err);
}

facet_status facet_tokenizer_from_json(const facet_tokenizer_texts *texts, facet_tokenizer *t,
                                       facet_err *err)
{
    reader r = {.texts = texts, .file = texts->file, .t = t, .err = err};
    cJSON *document = NULL;
    FACET_TRY(
        facet_json_parse(texts->tokenizer, texts->tokenizer_bytes, texts->file, &document, err));
    r.document = document;
    const facet_status status = read_document(&r);
    facet_mem_free(t->alloc, r.rows);
    cJSON_Delete(document);
    return status;
}
