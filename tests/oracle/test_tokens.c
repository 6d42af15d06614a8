// SPDX-License-Identifier: Apache-2.0
// Token ids of real models against golden ones (FACET_MODELS names the folder of models), and the
// dumper of compare_tokens.py and compare_chat.py. MODEL may be a folder with a tokenizer.json.
//     test_tokens dump MODEL FILE       FILE: records of u32 flags (1 add BOS, 2 special), u32
//     bytes
//                                       and the text; for each: u32 count and the ids
//     test_tokens vocab MODEL           every token: does it end, its text without and with special
//     test_tokens chat MODEL TEMPLATE|- role content ...    the ids
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/model.h"
#include "model/tokenizer_parts.h"

static facet_tokenizer *open_tokenizer(const char *path)
{
    facet_model *model = NULL;
    facet_tokenizer *tokenizer = NULL;
    facet_err err = {0};
    if (facet_path_is_dir(path)) { // needs no weights
        tokenizer = facet_tokenizer_make(NULL);
        if (tokenizer && facet_tokenizer_from_directory(path, FACET_TOKENS_MAX, tokenizer, &err)) {
            facet_tokenizer_free(tokenizer);
            tokenizer = NULL;
        }
    } else if (facet_model_open(path, NULL, &model, &err) == FACET_OK) {
        facet_tokenizer_new(model, &tokenizer, &err);
        facet_model_close(model);
    }
    if (!tokenizer) fprintf(stderr, "%s: %s\n", path, err.message);
    return tokenizer;
}

static int dump_record(const facet_tokenizer *t, const uint32_t head[2], const char *text)
{
    facet_tokens tokens = {0};
    facet_err err = {0};
    if (facet_tokenizer_encode(t, text, head[1], head[0] & 1, head[0] & 2, NULL, &tokens, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const uint32_t count = (uint32_t)tokens.count;
    const bool ok =
        fwrite(&count, 4, 1, stdout) == 1 && fwrite(tokens.ids, 4, count, stdout) == count;
    free(tokens.ids);
    return ok ? 0 : 1;
}

static int dump(const char *model, const char *path)
{
    facet_map map;
    facet_err err = {0};
    facet_tokenizer *t = open_tokenizer(model);
    if (!t) return 1;
    int failed = facet_map_open(path, &map, &err) != FACET_OK;
    const uint64_t start = facet_clock_ns();
    for (size_t at = 0; !failed && at < map.bytes;) {
        uint32_t head[2];
        memcpy(head, map.data + at, sizeof head);
        failed = dump_record(t, head, (const char *)map.data + at + sizeof head);
        at += sizeof head + head[1];
    }
    const double seconds = (double)(facet_clock_ns() - start) / 1e9;
    fprintf(stderr, "%s: %.3f s for %zu bytes\n", facet_tokenizer_kind(t), seconds, map.bytes);
    facet_map_close(&map);
    facet_tokenizer_free(t);
    return failed;
}

static bool put_u32(uint32_t value)
{
    return fwrite(&value, 4, 1, stdout) == 1;
}

// For each token: u32 end, u32 bytes and u32 bytes with special tokens, then both texts.
static int dump_vocabulary(const char *model)
{
    facet_tokenizer *t = open_tokenizer(model);
    if (!t) return 1;
    bool ok = put_u32(facet_tokenizer_vocab(t)) && put_u32(facet_tokenizer_adds_bos(t));
    for (uint32_t id = 0; ok && id < facet_tokenizer_vocab(t); id++) {
        facet_text plain, special;
        facet_text_init(&plain, NULL);
        facet_text_init(&special, NULL);
        facet_tokenizer_piece(t, id, false, &plain, NULL);
        facet_tokenizer_piece(t, id, true, &special, NULL);
        ok = put_u32(facet_tokenizer_is_end(t, id)) && put_u32((uint32_t)plain.length) &&
             put_u32((uint32_t)special.length) &&
             fwrite(facet_text_str(&plain), 1, plain.length, stdout) == plain.length &&
             fwrite(facet_text_str(&special), 1, special.length, stdout) == special.length;
        facet_text_fini(&plain);
        facet_text_fini(&special);
    }
    facet_tokenizer_free(t);
    return ok ? 0 : 1;
}

// Ids of a conversation, through the model's own template ("-") or the one in a file.
static int dump_chat(const char *model, const char *path, char **words, int n_words)
{
    facet_tokenizer *t = open_tokenizer(model);
    facet_message messages[16];
    facet_tokens tokens = {0};
    facet_err err = {0};
    facet_map map = {0};
    if (!t || n_words > 32) return 1;
    facet_status status = FACET_OK;
    if (strcmp(path, "-") != 0) {
        status = facet_map_open(path, &map, &err);
        if (status == FACET_OK)
            status = facet_chat_detect((const char *)map.data, map.bytes, NULL, &t->chat, &err);
        facet_map_close(&map);
    }
    for (int i = 0; i + 1 < n_words; i += 2)
        messages[i / 2] = (facet_message){words[i], words[i + 1]};
    if (status == FACET_OK)
        status = facet_tokenizer_chat_encode(t, messages, (size_t)n_words / 2, true, NULL, &tokens,
                                             &err);
    fprintf(stderr, "%s\n", status == FACET_OK ? facet_tokenizer_chat(t) : err.message);
    bool ok = status == FACET_OK;
    for (size_t i = 0; ok && i < tokens.count; i++)
        ok = put_u32(tokens.ids[i]);
    free(tokens.ids);
    facet_tokenizer_free(t);
    return ok ? 0 : 1;
}

// ---- golden ids -------------------------------------------------------------------------------

static uint64_t fnv(const uint32_t *ids, size_t count)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++)
        for (unsigned shift = 0; shift < 32; shift += 8)
            h = (h ^ ((ids[i] >> shift) & 0xff)) * 0x100000001b3u;
    return h;
}

// One line of ids.txt: 0 right, 1 wrong, 77 the model is not there.
static int check_line(const char *models, const char *line, const char *text, size_t bytes)
{
    char name[128], path[4096];
    unsigned flags, count;
    unsigned long long want;
    if (sscanf(line, "%127s %u %u %llx", name, &flags, &count, &want) != 4) return 1;
    if (facet_path_join(path, sizeof path, models, name, NULL) || !facet_path_exists(path))
        return 77;
    facet_tokenizer *t = open_tokenizer(path);
    facet_tokens tokens = {0};
    bool ok = t && facet_tokenizer_encode(t, text, bytes, flags & 1, flags & 2, NULL, &tokens,
                                          NULL) == FACET_OK;
    ok = ok && tokens.count == count && fnv(tokens.ids, tokens.count) == want;
    printf("%s, flags %u: %u tokens: %s\n", name, flags, count, ok ? "equal" : "DIFFERENT");
    free(tokens.ids);
    facet_tokenizer_free(t);
    return ok ? 0 : 1;
}

static int golden(const char *models, const char *source)
{
    char path[4096], *text = NULL, *lines = NULL;
    size_t text_bytes, line_bytes;
    int checked = 0, wrong = 0;
    snprintf(path, sizeof path, "%s/tests/golden/tokens/text.bin", source);
    if (facet_file_read(path, 1 << 20, NULL, &text, &text_bytes, NULL)) return 1;
    snprintf(path, sizeof path, "%s/tests/golden/tokens/ids.txt", source);
    if (facet_file_read(path, 1 << 20, NULL, &lines, &line_bytes, NULL)) return 1;
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
        const int result = check_line(models, line, text, text_bytes);
        checked += result != 77;
        wrong += result == 1;
    }
    free(text);
    free(lines);
    if (checked == 0)
        printf("skipped: none of the models of tests/golden/tokens is in %s\n", models);
    return wrong ? 1 : checked ? 0 : 77;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "dump") == 0) return dump(argv[2], argv[3]);
    if (argc == 3 && strcmp(argv[1], "vocab") == 0) return dump_vocabulary(argv[2]);
    if (argc > 3 && strcmp(argv[1], "chat") == 0)
        return dump_chat(argv[2], argv[3], argv + 4, argc - 4);
    const char *models = getenv("FACET_MODELS"), *source = getenv("FACET_SOURCE");
    if (models && source) return golden(models, source);
    printf("skipped: FACET_MODELS names no folder of models\n");
    return 77;
}
