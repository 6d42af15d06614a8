// SPDX-License-Identifier: Apache-2.0
// Mask sets and families: round trips with equal bytes, files of other frameworks, damage.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka needs the four above first.
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "model/safetensors.h"
#include "model/samples.h"
#include "tests/support/failing.h"

enum { N = 3, LAYERS = 2, F = 10, ROW = 2, VOCAB = 50 };

static char folder[4096], path[4200], other[4200];

static int setup(void **state)
{
    (void)state;
    const char *temp = getenv("TMPDIR");
    if (facet_dir_temp(temp ? temp : "/tmp", "facet-samples", folder, sizeof folder, NULL))
        return 1;
    snprintf(path, sizeof path, "%s/x.masks", folder);
    snprintf(other, sizeof other, "%s/y.masks", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return facet_dir_remove(folder, NULL) != FACET_OK;
}

// The contents of the files below; tests change copies of single fields.
typedef struct content {
    float scores[N * LAYERS * F];
    uint8_t mask[N * LAYERS * ROW];
    uint32_t tokens[6], lengths[N], assign[N], documents[N], answers[N];
    uint8_t held[N];
} content;

static content make_content(void)
{
    content c = {.tokens = {1, 2, 3, 49, 0, 7},
                 .lengths = {1, 3, 2},
                 .assign = {0, 1, 1},
                 .documents = {7, 0, 7},
                 .answers = {0, 2, 2},
                 .held = {0, 0, 1}};
    for (int i = 0; i < N * LAYERS * F; i++)
        c.scores[i] = (float)i / 7;
    for (int i = 0; i < N * LAYERS; i++) {
        c.mask[ROW * i] = (uint8_t)(0x1f << (i % 3));
        c.mask[ROW * i + 1] = (uint8_t)(i % 2 ? 2 : 0);
    }
    return c;
}

static char *labels[N] = {(char[]){"code"}, (char[]){"words \"x\""}, (char[]){"caf\xc3\xa9"}};
static char shape[] = "llama:2:8:10:50", model[] = "0123456789abcdef0123456789abcdef";

static facet_mask_set mask_set(content *c)
{
    return (facet_mask_set){.n = N,
                            .n_layers = LAYERS,
                            .d_ff = F,
                            .scores = c->scores,
                            .mask = c->mask,
                            .samples = {c->tokens, c->lengths, N, 6, c->documents, c->answers},
                            .labels = labels,
                            .shape = shape,
                            .model = model,
                            .keep = 0.33};
}

static facet_family_set family_set(content *c)
{
    return (facet_family_set){.n_families = 2,
                              .n_layers = LAYERS,
                              .d_ff = F,
                              .names = labels,
                              .scores = c->scores,
                              .mask = c->mask,
                              .assign = c->assign,
                              .held = c->held,
                              .samples = {c->tokens, c->lengths, N, 6, c->documents, c->answers},
                              .shape = shape,
                              .model = model,
                              .keep = 0.5,
                              .silhouette = -0.125};
}

static void assert_same_files(const char *a, const char *b)
{
    facet_map x, y;
    assert_int_equal(facet_map_open(a, &x, NULL), FACET_OK);
    assert_int_equal(facet_map_open(b, &y, NULL), FACET_OK);
    assert_int_equal(x.bytes, y.bytes);
    assert_memory_equal(x.data, y.data, x.bytes);
    facet_map_close(&x);
    facet_map_close(&y);
}

static void assert_samples(const facet_samples *samples, const content *c)
{
    assert_int_equal(samples->n, N);
    assert_int_equal(samples->n_tokens, 6);
    assert_memory_equal(samples->tokens, c->tokens, sizeof c->tokens);
    assert_memory_equal(samples->lengths, c->lengths, sizeof c->lengths);
    assert_memory_equal(samples->documents, c->documents, sizeof c->documents);
    assert_memory_equal(samples->answers, c->answers, sizeof c->answers);
}

static void test_masks(void **state)
{
    (void)state;
    content c = make_content();
    const facet_mask_set set = mask_set(&c);
    facet_mask_set back;
    facet_err err;
    char kind[16];
    if (facet_mask_set_save(&set, path, true, &err)) fail_msg("%s", err.message);
    if (facet_mask_set_load(path, NULL, &back, &err)) fail_msg("%s", err.message);
    assert_int_equal(back.n, N);
    assert_int_equal(back.n_layers, LAYERS);
    assert_int_equal(back.d_ff, F);
    assert_memory_equal(back.scores, c.scores, sizeof c.scores);
    assert_memory_equal(back.mask, c.mask, sizeof c.mask);
    assert_samples(&back.samples, &c);
    for (int i = 0; i < N; i++)
        assert_string_equal(back.labels[i], labels[i]);
    assert_string_equal(back.shape, shape);
    assert_string_equal(back.model, model);
    assert_true(back.keep == 0.33);
    assert_int_equal(facet_mask_set_save(&back, other, true, NULL), FACET_OK);
    assert_same_files(path, other);
    facet_mask_set_fini(&back);
    assert_int_equal(facet_samples_kind(path, kind, NULL), FACET_OK);
    assert_string_equal(kind, "masks");
    facet_family_set families;
    assert_int_equal(facet_family_set_load(path, NULL, &families, &err), FACET_BAD_INPUT);
    assert_non_null(strstr(err.message, "kind 'families'"));
}

static void test_families(void **state)
{
    (void)state;
    content c = make_content();
    const facet_family_set set = family_set(&c);
    facet_family_set back;
    facet_err err;
    char kind[16];
    if (facet_family_set_save(&set, path, true, &err)) fail_msg("%s", err.message);
    if (facet_family_set_load(path, NULL, &back, &err)) fail_msg("%s", err.message);
    assert_int_equal(back.n_families, 2);
    assert_memory_equal(back.scores, c.scores, 2 * LAYERS * F * sizeof(float));
    assert_memory_equal(back.mask, c.mask, 2 * LAYERS * ROW);
    assert_memory_equal(back.assign, c.assign, sizeof c.assign);
    assert_memory_equal(back.held, c.held, sizeof c.held);
    assert_samples(&back.samples, &c);
    assert_string_equal(back.names[1], labels[1]);
    assert_true(back.keep == 0.5 && back.silhouette == -0.125);
    assert_int_equal(facet_family_set_save(&back, other, true, NULL), FACET_OK);
    assert_same_files(path, other);
    facet_family_set_fini(&back);
    assert_int_equal(facet_samples_kind(path, kind, NULL), FACET_OK);
    assert_string_equal(kind, "families");
    facet_mask_set masks;
    assert_int_equal(facet_mask_set_load(path, NULL, &masks, NULL), FACET_BAD_INPUT);
}

static void test_kinds(void **state)
{
    (void)state;
    char kind[16];
    assert_int_equal(facet_file_write(path, "GGUF\3\0\0\0{\0\0\0\0\0\0\0", 16, true, NULL),
                     FACET_OK);
    assert_int_equal(facet_samples_kind(path, kind, NULL), FACET_OK);
    assert_string_equal(kind, "");
    assert_int_equal(facet_file_write(path, "", 0, true, NULL), FACET_OK);
    assert_int_equal(facet_samples_kind(path, kind, NULL), FACET_OK);
    assert_string_equal(kind, "");
    // Damage of what looks like ours is told, not taken for another file.
    assert_int_equal(facet_file_write(path, "\x50\0\0\0\0\0\0\0{\"__meta", 16, true, NULL),
                     FACET_OK);
    assert_int_equal(facet_samples_kind(path, kind, NULL), FACET_BAD_FILE);
    remove(path);
    assert_int_equal(facet_samples_kind(path, kind, NULL), FACET_NOT_FOUND);
}

// ---- files that another program wrote ---------------------------------------------------------

typedef struct foreign {
    facet_st_meta meta[8];
    facet_st_tensor tensors[8];
    uint32_t n_meta, n_tensors;
} foreign;

static void add_meta(foreign *file, const char *key, const char *value)
{
    file->meta[file->n_meta++] = (facet_st_meta){key, value};
}

static facet_st_tensor *add_tensor(foreign *file, const char *name, facet_st_type type,
                                   const void *data, const uint64_t dims[3])
{
    facet_st_tensor *tensor = &file->tensors[file->n_tensors++];
    *tensor = (facet_st_tensor){
        .name = name, .type = type, .data = data, .bytes = facet_st_type_bytes(type)};
    while (tensor->n_dims < 3 && dims[tensor->n_dims]) {
        tensor->bytes *= dims[tensor->n_dims];
        tensor->dims[tensor->n_dims] = dims[tensor->n_dims];
        tensor->n_dims++;
    }
    return tensor;
}

static foreign foreign_masks(void)
{
    foreign file = {0};
    add_meta(&file, "facet.kind", "masks");
    add_meta(&file, "facet.version", "1");
    add_meta(&file, "facet.shape", shape);
    return file;
}

static void write_foreign(const foreign *file)
{
    const facet_st_file out = {file->meta, file->n_meta, file->tensors, file->n_tensors, NULL};
    assert_int_equal(facet_safetensors_save(&out, path, true, NULL), FACET_OK);
}

static void expect_masks(const foreign *file, facet_status status, const char *words)
{
    facet_mask_set set;
    facet_err err = {0};
    write_foreign(file);
    const facet_status got = facet_mask_set_load(path, NULL, &set, &err);
    if (got != status || (status && !strstr(err.message, words))) {
        print_error("wanted %s with '%s', got %s: %s\n", facet_status_slug(status), words,
                    facet_status_slug(got), err.message);
        fail();
    }
    if (got == FACET_OK) facet_mask_set_fini(&set);
}

static void test_foreign(void **state)
{
    (void)state;
    content c = make_content();
    facet_mask_set set;
    // A mask alone; bits past the last channel are cleared.
    c.mask[1] = 0xfe;
    foreign file = foreign_masks();
    add_tensor(&file, "mask", FACET_ST_U8, c.mask, (uint64_t[3]){N, LAYERS, ROW});
    write_foreign(&file);
    assert_int_equal(facet_mask_set_load(path, NULL, &set, NULL), FACET_OK);
    assert_null(set.scores);
    assert_null(set.labels);
    assert_null(set.samples.tokens);
    assert_null(set.samples.documents);
    assert_null(set.samples.answers);
    assert_int_equal(set.samples.n, N);
    assert_int_equal(set.mask[1], 2);
    assert_string_equal(set.model, "");
    assert_true(set.keep == 0);
    facet_mask_set_fini(&set);
    // Scores as halves, and a tensor that means nothing to us.
    const uint16_t halves[N * LAYERS * F] = {0x3c00, 0x4000};
    file = foreign_masks();
    add_tensor(&file, "scores", FACET_ST_F16, halves, (uint64_t[3]){N, LAYERS, F});
    add_tensor(&file, "epoch", FACET_ST_I64, c.scores, (uint64_t[3]){1});
    write_foreign(&file);
    assert_int_equal(facet_mask_set_load(path, NULL, &set, NULL), FACET_OK);
    assert_true(set.scores[0] == 1 && set.scores[1] == 2 && set.scores[2] == 0);
    assert_null(set.mask);
    facet_mask_set_fini(&set);
}

static void test_bad_scores(void **state)
{
    (void)state;
    static const float bad[] = {NAN, -INFINITY, INFINITY, -1.0f};
    const uint64_t dims[3] = {N, LAYERS, F};
    for (size_t i = 0; i < FACET_COUNT_OF(bad); i++) {
        content c = make_content();
        c.scores[1 * LAYERS * F + 1 * F + 4] = bad[i];
        foreign file = foreign_masks();
        add_tensor(&file, "scores", FACET_ST_F32, c.scores, dims);
        expect_masks(&file, FACET_BAD_TENSOR, "for sample 1, layer 1, channel 4");
    }
    const uint16_t halves[N * LAYERS * F] = {[5] = 0x7e00};
    foreign file = foreign_masks();
    add_tensor(&file, "scores", FACET_ST_F16, halves, dims);
    expect_masks(&file, FACET_BAD_TENSOR, "for sample 0, layer 0, channel 5");
}

static void test_bad_meta(void **state)
{
    (void)state;
    static const struct {
        int entry; // of foreign_masks, or 3: one more
        const char *key, *value;
        facet_status status;
        const char *words;
    } cases[] = {
        {0, "facet.kind", "mosaic", FACET_BAD_INPUT, "is not a file of kind 'masks'"},
        {0, "x", "masks", FACET_BAD_INPUT, "is not a file of kind 'masks'"},
        {1, "facet.version", "2", FACET_UNSUPPORTED, "facet.version '2'"},
        {2, "facet.shape", "llama:2:8:10", FACET_BAD_FILE, "facet.shape"},
        {2, "facet.shape", "llama:2:8:10:50:1", FACET_BAD_FILE, "facet.shape"},
        {2, "facet.shape", "llama:2:8:-10:50", FACET_BAD_FILE, "facet.shape"},
        {2, "facet.shape", "llama:2:8:0:50", FACET_BAD_FILE, "facet.shape"},
        {2, "facet.shape", ":2:8:10:50", FACET_BAD_FILE, "facet.shape"},
        {2, "facet.shape", "llama:2:8:99999999999999999999999:50", FACET_BAD_FILE, "facet.shape"},
        {2, "facet.shape", "llama:3:8:10:50", FACET_BAD_TENSOR, "size 2 in dimension 1"},
        {2, "facet.shape", "llama:2:8:11:50", FACET_BAD_TENSOR, "size 10 in dimension 2"},
        {2, "facet.shape", "llama:2:8:10:49", FACET_BAD_TENSOR, "id 49 at 3"},
        {3, "facet.keep", "0", FACET_BAD_FILE, "facet.keep"},
        {3, "facet.keep", "2", FACET_BAD_FILE, "facet.keep"},
        {3, "facet.keep", "nan", FACET_BAD_FILE, "facet.keep"},
        {3, "facet.labels", "[\"a\",\"b\"]", FACET_BAD_FILE, "array of 3 names"},
        {3, "facet.labels", "[\"a\",\"b\",\"\"]", FACET_BAD_FILE, "name 2 is empty"},
        {3, "facet.labels", "[\"a\",\"b\",3]", FACET_BAD_FILE, "name 2"},
        {3, "facet.labels", "[\"a\",\"b\\n\",\"c\"]", FACET_BAD_FILE, "name 1"},
        {3, "facet.labels", "[", FACET_BAD_FILE, "not a JSON document"},
    };
    content c = make_content();
    for (size_t i = 0; i < FACET_COUNT_OF(cases); i++) {
        foreign file = foreign_masks();
        add_tensor(&file, "scores", FACET_ST_F32, c.scores, (uint64_t[3]){N, LAYERS, F});
        add_tensor(&file, "tokens", FACET_ST_I32, c.tokens, (uint64_t[3]){6});
        add_tensor(&file, "lengths", FACET_ST_I32, c.lengths, (uint64_t[3]){N});
        file.meta[cases[i].entry] = (facet_st_meta){cases[i].key, cases[i].value};
        if (cases[i].entry == 3) file.n_meta = 4;
        expect_masks(&file, cases[i].status, cases[i].words);
    }
}

static void test_bad_tensors(void **state)
{
    (void)state;
    content c = make_content();
    foreign file = foreign_masks();
    expect_masks(&file, FACET_BAD_FILE, "neither a tensor scores nor a tensor mask");
    add_tensor(&file, "mask", FACET_ST_U8, c.mask, (uint64_t[3]){N, LAYERS, ROW});
    facet_st_tensor *scores =
        add_tensor(&file, "scores", FACET_ST_F32, c.scores, (uint64_t[3]){2, LAYERS, F});
    expect_masks(&file, FACET_BAD_TENSOR, "size 3 in dimension 0 where the rest says 2");
    file.n_tensors = 1;
    scores = add_tensor(&file, "scores", FACET_ST_BF16, c.scores, (uint64_t[3]){N, LAYERS, F});
    expect_masks(&file, FACET_BAD_TENSOR, "is not F32");
    scores->name = "other";
    facet_st_tensor *tokens = add_tensor(&file, "tokens", FACET_ST_I32, c.tokens, (uint64_t[3]){6});
    expect_masks(&file, FACET_BAD_FILE, "without the other");
    add_tensor(&file, "lengths", FACET_ST_I32, c.lengths, (uint64_t[3]){N});
    expect_masks(&file, FACET_OK, "");
    c.lengths[0] = 2;
    expect_masks(&file, FACET_BAD_TENSOR, "does not sum");
    c.lengths[0] = 0;
    expect_masks(&file, FACET_BAD_TENSOR, "length below 1");
    c.lengths[0] = 0xffffffff;
    expect_masks(&file, FACET_BAD_TENSOR, "length below 1");
    c.lengths[0] = 1;
    c.tokens[5] = 0xffffffff;
    expect_masks(&file, FACET_BAD_TENSOR, "id -1 at 5");
    tokens->type = FACET_ST_U32;
    expect_masks(&file, FACET_BAD_TENSOR, "is not I32");
    file = foreign_masks();
    add_tensor(&file, "mask", FACET_ST_U8, c.mask, (uint64_t[3]){N, LAYERS, ROW});
    file.tensors[0].dims[0] = 0;
    file.tensors[0].bytes = 0;
    expect_masks(&file, FACET_BAD_TENSOR, "size 0 in dimension 0");
}

// A tensor of a number a sample has the type and the size that the format says.
static void expect_numbers(const foreign *file, facet_st_tensor *tensor)
{
    char words[80];
    tensor->type = FACET_ST_U32;
    snprintf(words, sizeof words, "%s is not I32", tensor->name);
    expect_masks(file, FACET_BAD_TENSOR, words);
    tensor->type = FACET_ST_I32;
    tensor->dims[0] = N - 1;
    tensor->bytes -= 4;
    snprintf(words, sizeof words, "%s has size 2 in dimension 0", tensor->name);
    expect_masks(file, FACET_BAD_TENSOR, words);
}

static void test_bad_documents(void **state)
{
    (void)state;
    content c = make_content();
    foreign file = foreign_masks();
    add_tensor(&file, "mask", FACET_ST_U8, c.mask, (uint64_t[3]){N, LAYERS, ROW});
    facet_st_tensor *documents =
        add_tensor(&file, "documents", FACET_ST_I32, c.documents, (uint64_t[3]){N});
    expect_masks(&file, FACET_OK, ""); // needs no tokens
    c.documents[2] = INT32_MAX;
    expect_masks(&file, FACET_OK, "");
    c.documents[2] = 0x80000000;
    expect_masks(&file, FACET_BAD_TENSOR, "documents holds a number below 0");
    c.documents[2] = 0;
    expect_numbers(&file, documents);
}

static void test_bad_answers(void **state)
{
    (void)state;
    content c = make_content();
    foreign file = foreign_masks();
    add_tensor(&file, "mask", FACET_ST_U8, c.mask, (uint64_t[3]){N, LAYERS, ROW});
    facet_st_tensor *answers =
        add_tensor(&file, "answers", FACET_ST_I32, c.answers, (uint64_t[3]){N});
    expect_masks(&file, FACET_BAD_TENSOR, "answers needs tokens and lengths");
    add_tensor(&file, "tokens", FACET_ST_I32, c.tokens, (uint64_t[3]){6});
    add_tensor(&file, "lengths", FACET_ST_I32, c.lengths, (uint64_t[3]){N});
    expect_masks(&file, FACET_OK, "");
    c.answers[1] = 3; // as long as the sample: no answer
    expect_masks(&file, FACET_OK, "");
    c.answers[1] = 4;
    expect_masks(&file, FACET_BAD_TENSOR, "answers says 4 for sample 1, which has 3 tokens");
    c.answers[1] = 0x80000000;
    expect_masks(&file, FACET_BAD_TENSOR, "answers says -2147483648 for sample 1");
    c.answers[1] = 3;
    expect_numbers(&file, answers);
}

static void expect_families(const facet_family_set *set, const char *words)
{
    facet_family_set back;
    facet_err err = {0};
    assert_int_equal(facet_family_set_save(set, path, true, NULL), FACET_OK);
    assert_int_equal(facet_status_exit(facet_family_set_load(path, NULL, &back, &err)), 3);
    if (!strstr(err.message, words)) fail_msg("wanted '%s', got %s", words, err.message);
}

static void test_bad_families(void **state)
{
    (void)state;
    content c = make_content();
    facet_family_set set = family_set(&c);
    c.assign[2] = 2;
    expect_families(&set, "names a family that is not there");
    c.assign[2] = 1;
    c.held[0] = 2;
    expect_families(&set, "something else than 0 and 1");
    c.held[0] = 0;
    c.documents[1] = UINT32_MAX;
    expect_families(&set, "documents holds a number below 0");
    c.documents[1] = 0;
    c.answers[2] = 3;
    expect_families(&set, "answers says 3 for sample 2, which has 2 tokens");
    c.answers[2] = 2;
    set.silhouette = 1.5;
    expect_families(&set, "facet.silhouette");
    set.silhouette = 0;
    char *same[2] = {labels[0], labels[0]};
    set.names = same;
    expect_families(&set, "two families have the name code");
    set.n_families = 0;
    assert_int_equal(facet_family_set_save(&set, path, true, NULL), FACET_BAD_INPUT);
    const facet_mask_set empty = {.shape = shape};
    assert_int_equal(facet_mask_set_save(&empty, path, true, NULL), FACET_BAD_INPUT);
}

static void test_memory(void **state)
{
    (void)state;
    content c = make_content();
    const facet_mask_set masks = mask_set(&c);
    const facet_family_set families = family_set(&c);
    assert_int_equal(facet_mask_set_save(&masks, path, true, NULL), FACET_OK);
    assert_int_equal(facet_family_set_save(&families, other, true, NULL), FACET_OK);
    facet_status status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_mask_set set;
        facet_failing_init(&failing, n);
        status = facet_mask_set_load(path, &failing.alloc, &set, NULL);
        if (status == FACET_OK) {
            status = facet_mask_set_save(&set, path, true, NULL);
            facet_mask_set_fini(&set);
        }
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        assert_int_equal(atomic_load(&failing.alive), 0);
    }
    status = FACET_NO_MEMORY;
    for (long n = 1; status != FACET_OK; n++) {
        facet_failing failing;
        facet_family_set set;
        facet_failing_init(&failing, n);
        status = facet_family_set_load(other, &failing.alloc, &set, NULL);
        assert_true(status == FACET_OK || status == FACET_NO_MEMORY);
        if (status == FACET_OK) facet_family_set_fini(&set);
        assert_int_equal(atomic_load(&failing.alive), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks),       cmocka_unit_test(test_families),
        cmocka_unit_test(test_kinds),       cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_bad_scores),  cmocka_unit_test(test_bad_meta),
        cmocka_unit_test(test_bad_tensors), cmocka_unit_test(test_bad_documents),
        cmocka_unit_test(test_bad_answers), cmocka_unit_test(test_bad_families),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
