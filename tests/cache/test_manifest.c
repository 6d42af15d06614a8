// SPDX-License-Identifier: Apache-2.0
// The manifest: canonical text, the table of packings, and every kind of lie it must refuse.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/manifest.h"
#include "cache/manifest_internal.h"
#include "kernels/abi.h"
#include "tests/support/failing.h"

#define LAYERS         2u
#define FF             100u // four tiles, the last one ragged: 4 channels
#define FAMILY_ENTRIES 9u

static facet_entry *add(facet_entry *e, const char *name, uint32_t layer, const char *pack,
                        uint32_t rows, uint32_t cols, uint64_t *end)
{
    uint32_t unit = 1, unit_bytes = 0;
    strcpy(e->name, name);
    strcpy(e->pack, pack);
    e->layer = layer;
    e->n_rows = rows;
    if (facet_manifest_pack(pack, &unit, &unit_bytes) && rows > 1) {
        e->n_cols = (cols + unit - 1) / unit * unit;
        e->bytes = (uint64_t)(rows + 15) / 16 * (e->n_cols / unit) * unit_bytes;
    } else {
        e->n_cols = cols;
        e->bytes = 4 * (uint64_t)cols;
    }
    e->offset = *end;
    *end = (*end + e->bytes + 63) / 64 * 64;
    return e + 1;
}

static facet_entry *add_layer(facet_entry *e, uint32_t layer, uint64_t *end)
{
    e = add(e, "attn_norm", layer, "F32", 1, 64, end);
    e = add(e, "q", layer, "Q4_0", 64, 64, end);
    e = add(e, "k", layer, "Q4_0", 32, 64, end);
    e = add(e, "v", layer, "Q8_0", 32, 64, end);
    e = add(e, "o", layer, "F16", 64, 64, end);
    e = add(e, "q_bias", layer, "F32", 1, 64, end);
    e = add(e, "ffn_norm", layer, "F32", 1, 64, end);
    e = add(e, "gate", layer, "Q4_0", FF, 64, end);
    e[-1].bytes = e[-1].offset = 0;
    e = add(e, "up", layer, "Q5_1", FF, 64, end);
    e[-1].bytes = e[-1].offset = 0;
    e = add(e, "gate_up", layer, "TILES", FF, 64, end);
    e[-1].bytes = 4 * (2 * 2 * 288 + 2 * 2 * 384);
    *end = e[-1].offset + e[-1].bytes;
    e = add(e, "down", layer, "Q4_0", 64, FF, end);
    return add(e, "perm", layer, "U32", 1, 128, end);
}

static void set_file(facet_manifest_file *file, const char *name, uint64_t bytes)
{
    strcpy(file->name, name);
    file->bytes = bytes;
    strcpy(file->xxh3, "0123456789abcdef0123456789abcdef");
}

static uint32_t *numbers(facet_manifest *m, size_t n, const uint32_t *values)
{
    uint32_t *copy = facet_arena_new(&m->arena, n, sizeof *copy);
    memcpy(copy, values, n * sizeof *copy);
    return copy;
}

static void add_families(facet_manifest *m, uint64_t *end)
{
    static const uint32_t one[] = {1, 1}, all[] = {0, 4, 0, 4}, full[] = {FF, FF};
    static const uint32_t two[] = {2, 1}, some[] = {0, 1, 3, 1, 1, 2}, kept[] = {36, 64};
    m->n_families = 2;
    m->families = facet_arena_new(&m->arena, 2, sizeof *m->families);
    m->families[0] = (facet_manifest_family){.name = "dense",
                                             .keep = 1,
                                             .recall = 1,
                                             .n_channels = numbers(m, 2, full),
                                             .n_runs = numbers(m, 2, one),
                                             .runs = numbers(m, 4, all)};
    m->families[1] = (facet_manifest_family){.name = "prose \"de\"",
                                             .file = "families/prose.bin",
                                             .keep = 0.5,
                                             .recall = 0.987654321,
                                             .samples = 40,
                                             .token_bytes = 1000,
                                             .packed_token_bytes = 1100,
                                             .n_channels = numbers(m, 2, kept),
                                             .n_runs = numbers(m, 2, two),
                                             .runs = numbers(m, 6, some),
                                             .n_entries = FAMILY_ENTRIES};
    facet_entry *e = facet_arena_new(&m->arena, FAMILY_ENTRIES, sizeof *e);
    m->families[1].entries = e;
    e = add(e, "down", 0, "Q6_0", 64, 64, end);
    e = add(e, "down_bias", 0, "F32", 1, 64, end);
    e = add(e, "attn_norm", 0, "F32", 1, 64, end);
    e = add(e, "ffn_norm", 0, "F32", 1, 64, end);
    e = add(e, "q_bias", 0, "F32", 1, 64, end);
    e = add(e, "scores", 0, "F32", 1, FF, end);
    e = add(e, "down", 1, "Q8_0", 64, 64, end);
    e = add(e, "scores", 1, "F32", 1, FF, end);
    add(e, "out_norm", LAYERS, "F32", 1, 64, end);
    m->families[1].extra_bytes = *end;
}

static void sample(facet_manifest *m)
{
    uint64_t end = 0, family_end = 0;
    *m = (facet_manifest){.version = FACET_BUNDLE_VERSION,
                          .compensate = "refit",
                          .layout = "tiles32",
                          .quant = "keep",
                          .model = {.arch = "llama",
                                    .name = "tiny \\ \"model\"",
                                    .fingerprint = "00112233445566778899aabbccddeeff",
                                    .chat = "chatml",
                                    .n_layers = LAYERS,
                                    .d_model = 64,
                                    .d_ff = FF,
                                    .n_heads = 4,
                                    .n_kv_heads = 2,
                                    .head_dim = 16,
                                    .n_vocab = 100,
                                    .n_ctx = 128,
                                    .rope_style = 2,
                                    .rope_dims = 16,
                                    .rms_eps = 1e-6,
                                    .rope_base = 10000,
                                    .rope_base_local = 10000,
                                    .rope_scale = 1,
                                    .attn_scale = 0.25,
                                    .embed_scale = 1,
                                    .n_parameters = 123456,
                                    .source_bytes = 234567,
                                    .token_bytes = 200000,
                                    .token_ffn_bytes = 100000}};
    facet_arena_init(&m->arena, NULL);
    facet_entry *e = m->entries = facet_arena_new(&m->arena, 32, sizeof *e);
    e = add(e, "token_embd", LAYERS, "Q8_0", 100, 64, &end);
    e = add(e, "out_norm", LAYERS, "F32", 1, 64, &end);
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        e = add_layer(e, layer, &end);
    m->n_entries = (uint32_t)(e - m->entries);
    add_families(m, &family_end);
    m->n_kernels = 1;
    m->kernels = facet_arena_new(&m->arena, 1, sizeof *m->kernels);
    *m->kernels = (facet_manifest_kernel){.key = "aaaabbbbccccddddaaaabbbbccccdddd",
                                          .target = "avx512-vnni",
                                          .family = "prose \"de\"",
                                          .file = "kernels/a.so",
                                          .bytes = 4096};
    m->n_files = 4;
    m->files = facet_arena_new(&m->arena, 4, sizeof *m->files);
    set_file(&m->files[0], "weights.bin", end);
    set_file(&m->files[1], "families/prose.bin", family_end);
    set_file(&m->files[2], "kernels/a.so", 4096);
    set_file(&m->files[3], "tokenizer.bin", 10);
}

// Checks, prints and frees a manifest.
static void print(facet_manifest *m, char **text)
{
    facet_err err;
    if (facet_manifest_check(m, "sample", &err) != FACET_OK) fail_msg("%s", err.message);
    assert_int_equal(facet_manifest_print(m, NULL, text, &err), FACET_OK);
    facet_manifest_fini(m);
}

static void print_sample(char **text)
{
    facet_manifest m;
    sample(&m);
    print(&m, text);
}

static facet_status parse(const char *text, facet_manifest *m, facet_err *err)
{
    return facet_manifest_parse(text, strlen(text), "manifest.json", NULL, m, err);
}

// The text with the first `from` after `anchor` replaced; the caller frees it.
static char *replaced(const char *text, const char *anchor, const char *from, const char *to)
{
    const char *at = strstr(text, anchor);
    if (at == NULL || (at = strstr(at, from)) == NULL) fail_msg("no %s %s", anchor, from);
    char *result = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(result);
    memcpy(result, text, (size_t)(at - text));
    strcpy(result + (at - text), to);
    strcat(result, at + strlen(from));
    return result;
}

static void canonical(void **state)
{
    (void)state;
    facet_manifest m;
    facet_err err;
    char *first = NULL, *second = NULL;
    print_sample(&first);
    if (parse(first, &m, &err) != FACET_OK) fail_msg("%s", err.message);
    assert_int_equal(facet_manifest_print(&m, NULL, &second, &err), FACET_OK);
    assert_string_equal(first, second);
    assert_string_equal(m.model.name, "tiny \\ \"model\"");
    assert_non_null(facet_manifest_find(&m, "prose \"de\""));
    assert_null(facet_manifest_find(&m, "prose"));
    assert_int_equal(facet_manifest_kept(&m.families[1], 1), 2);
    assert_int_equal(facet_manifest_runs(&m.families[1], 1)[0], 1);
    assert_string_equal(
        facet_manifest_entry(m.entries, m.n_entries, LAYERS, FACET_ENTRY_TOKEN_EMBD)->pack, "Q8_0");
    facet_manifest_fini(&m);
    facet_manifest_fini(&m); // twice is safe
    free(first);
    facet_mem_free(NULL, second);
}

// The head of a family's own vector.
#define OWN "\"ffn_norm\", \"layer\": 0, \"pack\": "

static void refusals(void **state)
{
    static const struct {
        const char *anchor, *from, *to;
        facet_status status;
    } lies[] = {
        {"\"kind\"", "bundle", "masks", FACET_BAD_FILE},
        {"\"version\"", "1", "2", FACET_UNSUPPORTED},
        {"\"version\"", "1", "-1", FACET_BAD_FILE},
        {"\"arch\"", "llama", "", FACET_BAD_FILE},
        {"\"fingerprint\"", "0011", "ZZ11", FACET_BAD_FILE},
        {"\"n_layers\"", "2", "0", FACET_BAD_FILE},
        {"\"n_layers\"", "2", "3", FACET_BAD_FILE},
        {"\"n_layers\"", "2", "4294967296", FACET_BAD_FILE},
        {"\"d_ff\"", "100", "99", FACET_BAD_FILE},
        {"\"n_kv_heads\"", "2", "3", FACET_BAD_FILE},
        {"\"rope_dims\"", "16", "18", FACET_BAD_FILE},
        {"\"rope_base\"", "10000", "0", FACET_BAD_FILE},
        {"\"rms_eps\"", "1e-06", "1e400", FACET_BAD_FILE},
        {"\"rope_style\"", "2", "3", FACET_BAD_FILE},
        {"\"token_ffn_bytes\"", "100000", "300000", FACET_BAD_FILE},
        {"\"weights\"", "weights.bin", "other.bin", FACET_BAD_FILE},
        {"\"attn_norm\"", "\"layer\": 0", "\"layer\": 2", FACET_BAD_FILE},
        {"\"attn_norm\"", "attn_norm", "attn_nork", FACET_BAD_FILE},
        {"\"attn_norm\"", "attn_norm", "ffn_norm", FACET_BAD_FILE},
        {"\"token_embd\"", "Q8_0", "Q9_0", FACET_BAD_FILE},
        {"\"token_embd\"", "\"rows\": 100", "\"rows\": 101", FACET_BAD_FILE},
        {"\"token_embd\"", "\"cols\": 64", "\"cols\": 4294967295", FACET_BAD_FILE},
        {"\"out_norm\"", "\"offset\": ", "\"offset\": 1", FACET_BAD_FILE},
        {"\"out_norm\"", "\"offset\": ", "\"offset\": 9007199254740", FACET_BAD_FILE},
        {"\"out_norm\"", "\"bytes\": 256", "\"bytes\": 252", FACET_BAD_FILE},
        {"\"gate_up\"", "TILES", "F32", FACET_BAD_FILE},
        {"\"up\"", "Q5_1", "F32", FACET_BAD_FILE},
        {"\"families\"", "\"dense\"", "\"thick\"", FACET_BAD_FILE},
        {"\"prose \\\"de\\\"\"", "prose", "dense/..", FACET_BAD_FILE},
        {"\"prose \\\"de\\\"\"", "prose \\\"de\\\"", "dense", FACET_BAD_FILE},
        {"families/prose.bin", "families/prose.bin", "families/../x", FACET_BAD_FILE},
        {"families/prose.bin", "families/prose.bin", "families/other.bin", FACET_BAD_FILE},
        {"families/prose.bin", "families/prose.bin", "families/pro\\u0000se", FACET_BAD_FILE},
        {"families/prose.bin", "0.5", "0", FACET_BAD_FILE},
        {"families/prose.bin", "0.5", "\"half\"", FACET_BAD_FILE},
        {"families/prose.bin", "\"channels\": [36", "\"channels\": [64", FACET_BAD_FILE},
        {"families/prose.bin", "\"channels\": [36", "\"channels\": [36, 1", FACET_BAD_FILE},
        {"families/prose.bin", "[0, 1, 3, 1]", "[0, 1, 3, 2]", FACET_BAD_FILE},
        {"families/prose.bin", "[0, 1, 3, 1]", "[3, 1, 0, 1]", FACET_BAD_FILE},
        {"families/prose.bin", "[0, 1, 3, 1]", "[0, 1, 0, 1]", FACET_BAD_FILE},
        {"families/prose.bin", "[0, 1, 3, 1]", "[0, 1, 3]", FACET_BAD_FILE},
        {"families/prose.bin", "[0, 1, 3, 1]", "[]", FACET_BAD_FILE},
        {"families/prose.bin", "[0, 1, 3, 1]", "[0, 1.5, 3, 1]", FACET_BAD_FILE},
        {"families/prose.bin", "[0, 1, 3, 1]", "7", FACET_BAD_FILE},
        {"families/prose.bin", "[0, 1, 3, 1]", "[0, 4294967295, 3, 1]", FACET_BAD_FILE},
        {"families/prose.bin", "Q6_0", "Q6_K", FACET_BAD_FILE},
        {"families/prose.bin", "\"down_bias\"", "\"down\"", FACET_BAD_FILE},
        {"families/prose.bin", "\"attn_norm\"", "\"ffn_norm\"", FACET_BAD_FILE},
        {"families/prose.bin", "\"attn_norm\"", "\"attn_post\"", FACET_BAD_FILE}, // not shared
        {"families/prose.bin", "\"attn_norm\"", "\"q_norm\"", FACET_BAD_FILE},
        {"families/prose.bin", "\"attn_norm\"", "\"q\"", FACET_BAD_FILE},
        {"families/prose.bin", "\"q_bias\"", "\"k_bias\"", FACET_BAD_FILE},
        {"families/prose.bin", "\"q_bias\"", "\"o_bias\"", FACET_BAD_FILE},
        {"families/prose.bin", "\"q_bias\"", "\"out_norm\"", FACET_BAD_FILE},
        {"families/prose.bin", "\"out_norm\"", "\"ffn_norm\"", FACET_BAD_FILE},
        {"families/prose.bin", "\"out_norm\", \"layer\": 2", "\"out_norm\", \"layer\": 1",
         FACET_BAD_FILE},
        {"families/prose.bin", OWN "\"F32\"", OWN "\"F16\"", FACET_BAD_FILE},
        {"families/prose.bin", OWN "\"F32\", \"rows\": 1", OWN "\"F32\", \"rows\": 2",
         FACET_BAD_FILE},
        {"families/prose.bin", OWN "\"F32\", \"rows\": 1, \"cols\": 64",
         OWN "\"F32\", \"rows\": 1, \"cols\": 65", FACET_BAD_FILE},
        {"families/prose.bin", OWN "\"F32\", \"rows\": 1, \"cols\": 64, \"offset\": ",
         OWN "\"F32\", \"rows\": 1, \"cols\": 64, \"offset\": 1", FACET_BAD_FILE},
        {"\"scores\"", "\"cols\": 100", "\"cols\": 128", FACET_BAD_FILE},
        {"\"scores\"", "F32", "F16", FACET_BAD_FILE},
        {"\"scores\"", "\"layer\": 0", "\"layer\": 1", FACET_BAD_FILE},
        {"\"scores\"", "\"layer\": 0", "\"layer\": 2", FACET_BAD_FILE},
        {"\"scores\"", "\"bytes\": 400", "\"bytes\": 404", FACET_BAD_FILE},
        {"\"scores\"", "\"offset\": ", "\"offset\": 90071992547", FACET_BAD_FILE},
        {"\"kernels\"", "aaaabbbb", "aaaabbb", FACET_BAD_FILE},
        {"\"kernels\"", "prose", "verse", FACET_BAD_FILE},
        {"\"kernels\"", "kernels/a.so", "kernels/b.so", FACET_BAD_FILE},
        {"\"kernels\"", "4096", "4095", FACET_BAD_FILE},
        {"\"files\"", "weights.bin", "/etc/passwd", FACET_BAD_FILE},
        {"\"files\"", "tokenizer.bin", "a/b/c", FACET_BAD_FILE},
        {"\"files\"", "tokenizer.bin", "manifest.json", FACET_BAD_FILE},
        {"\"files\"", "tokenizer.bin", "weights.bin", FACET_BAD_FILE},
        {"\"files\"", "tokenizer.bin", "a\xFF", FACET_BAD_FILE},
        {"\"files\"", "0123456789abcdef0", "0123456789ABCDEF0", FACET_BAD_FILE},
    };
    (void)state;
    char *text = NULL;
    print_sample(&text);
    for (size_t i = 0; i < FACET_COUNT_OF(lies); i++) {
        facet_manifest m;
        facet_err err = {0};
        char *lie = replaced(text, lies[i].anchor, lies[i].from, lies[i].to);
        const facet_status status = parse(lie, &m, &err);
        if (status != lies[i].status)
            fail_msg("%s -> %s: status %d, %s", lies[i].from, lies[i].to, (int)status, err.message);
        assert_string_equal(err.file, "manifest.json");
        assert_null(m.families);
        free(lie);
    }
    free(text);
}

// Scores and own vectors are optional: a bundle that was built before them is read.
static void without_scores_and_vectors(void **state)
{
    (void)state;
    facet_manifest m;
    facet_err err;
    sample(&m);
    facet_manifest_family *family = &m.families[1];
    assert_non_null(
        facet_manifest_entry(family->entries, family->n_entries, 1, FACET_ENTRY_SCORES));
    uint32_t kept = 0;
    for (uint32_t i = 0; i < family->n_entries; i++) {
        const char *name = family->entries[i].name;
        if (strcmp(name, FACET_ENTRY_SCORES) != 0 && !facet_manifest_own_vector(name))
            family->entries[kept++] = family->entries[i];
    }
    family->n_entries = kept;
    assert_int_equal(kept, 3);
    char *text = NULL;
    print(&m, &text);
    if (parse(text, &m, &err) != FACET_OK) fail_msg("%s", err.message);
    assert_int_equal(m.families[1].n_entries, 3);
    facet_manifest_fini(&m);
    facet_mem_free(NULL, text);
}

static void truncations(void **state)
{
    (void)state;
    char *text = NULL;
    print_sample(&text);
    const size_t length = strlen(text);
    for (size_t n = 0; n + 1 < length; n += 7) {
        facet_manifest m;
        assert_int_not_equal(facet_manifest_parse(text, n, "x", NULL, &m, NULL), FACET_OK);
    }
    free(text);
}

static void names(void **state)
{
    (void)state;
    assert_true(facet_manifest_name_ok("code"));
    assert_true(facet_manifest_name_ok("Übung 2"));
    static const char *const bad[] = {"",     ".",    "..",       ".x",          "a/b",
                                      "a\\b", "a\nb", "\xC0\x80", "\xED\xA0\x80"};
    for (size_t i = 0; i < FACET_COUNT_OF(bad); i++)
        assert_false(facet_manifest_name_ok(bad[i]));
    char name[65];
    memset(name, 'a', sizeof name);
    name[64] = 0;
    assert_false(facet_manifest_name_ok(name));
    name[63] = 0;
    assert_true(facet_manifest_name_ok(name));
}

// The table of packings is written twice, because cache/ does not see kernels/.
static void packs(void **state)
{
    static const char *const by_id[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0",
                                        "Q5_1", "Q6_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K"};
    (void)state;
    assert_int_equal(FACET_COUNT_OF(by_id), FACET_PACK_COUNT);
    assert_int_equal(FACET_MANIFEST_TILE, FACET_TILE);
    assert_int_equal(FACET_MANIFEST_GROUP, FACET_GROUP);
    for (uint32_t pack = 0; pack < FACET_PACK_COUNT; pack++) {
        uint32_t cols, bytes;
        assert_true(facet_manifest_pack(by_id[pack], &cols, &bytes));
        assert_int_equal(cols, facet_pack_cols(pack));
        assert_int_equal(bytes, facet_pack_bytes(pack));
    }
}

static void failing_memory(void **state)
{
    (void)state;
    char *text = NULL;
    print_sample(&text);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status == FACET_NO_MEMORY; n++) {
        facet_failing failing;
        facet_manifest m;
        char *copy = NULL;
        facet_failing_init(&failing, n);
        status = facet_manifest_parse(text, strlen(text), "x", &failing.alloc, &m, NULL);
        if (status == FACET_OK) {
            status = facet_manifest_print(&m, &failing.alloc, &copy, NULL);
            facet_mem_free(&failing.alloc, copy);
            facet_manifest_fini(&m);
        }
        assert_int_equal(failing.alive, 0);
        assert_true(n < 1000);
    }
    assert_int_equal(status, FACET_OK);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(canonical),
        cmocka_unit_test(refusals),
        cmocka_unit_test(truncations),
        cmocka_unit_test(names),
        cmocka_unit_test(packs),
        cmocka_unit_test(failing_memory),
        cmocka_unit_test(without_scores_and_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
