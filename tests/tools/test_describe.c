// SPDX-License-Identifier: Apache-2.0
// What inspect says of a bundle: which families are nested in which, which vectors are their own,
// and the proof as a table whatever stands in proof.json, which no other part of facet reads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "tests/support/tiny.h"
#include "tools/describe.h"

static char dir[4096], path[4200], proof_path[4300];

static cJSON *describe(bool json)
{
    const facet_tool tool = {.json = json};
    cJSON *doc = facet_doc_new();
    facet_err err;
    if (facet_describe_bundle(&tool, path, doc, &err) != FACET_OK) fail_msg("%s", err.message);
    return doc;
}

static bool lists_in(const cJSON *family, const char *field, const char *name)
{
    const cJSON *list = facet_json_find(family, field);
    assert_true(cJSON_IsArray(list));
    for (const cJSON *e = list->child; e != NULL; e = e->next)
        if (strcmp(e->valuestring, name) == 0) return true;
    return false;
}

static bool lists(const cJSON *family, const char *name)
{
    return lists_in(family, "nested_in", name);
}

static bool within(const tiny *t, uint32_t inner, uint32_t outer)
{
    for (uint32_t i = 0; i < t->n_tiles; i++)
        if (t->kept[inner][i] && !t->kept[outer][i]) return false;
    return true;
}

// "some" is in "all", "one" is in both or in "all" only, as the number of tiles is odd or even.
static void test_nested(void **state)
{
    (void)state;
    static const uint32_t d_ffs[] = {172, 160, 64, 32, 30};
    uint32_t n_nested = 0, n_apart = 0;
    for (size_t n = 0; n < FACET_COUNT_OF(d_ffs); n++) {
        tiny_opts opts = tiny_plain;
        opts.d_ff = d_ffs[n];
        tiny *t = tiny_new(&opts);
        tiny_write(t, path, NULL, NULL);
        cJSON *doc = describe(n % 2 == 0);
        const cJSON *families = facet_json_find(doc, "families");
        for (uint32_t i = 0; i < TINY_FAMILIES; i++) {
            const cJSON *family = cJSON_GetArrayItem(families, (int)i);
            assert_false(lists(family, "dense"));
            for (uint32_t k = 1; k < TINY_FAMILIES; k++) {
                const bool nested = i > 0 && k != i && within(t, i, k);
                assert_int_equal(lists(family, tiny_family_names[k]), nested);
                n_nested += nested;
                n_apart += !nested;
            }
        }
        assert_true(lists(cJSON_GetArrayItem(families, 2), "all"));
        cJSON_Delete(doc);
        tiny_free(t);
        assert_int_equal(facet_dir_remove(path, NULL), FACET_OK);
    }
    assert_true(n_nested > 10 && n_apart > 10);
}

// "some" has every vector of its own that the model has, "one" the last norm, the others none. Each
// is named once, in the order of the file.
static void test_own_vectors(void **state)
{
    (void)state;
    tiny_opts opts = tiny_plain;
    opts.biases = true;
    tiny *t = tiny_new(&opts);
    tiny_write(t, path, NULL, NULL);
    cJSON *doc = describe(true);
    const cJSON *families = facet_json_find(doc, "families");
    for (uint32_t i = 0; i < TINY_FAMILIES; i++) {
        const cJSON *family = cJSON_GetArrayItem(families, (int)i);
        for (uint32_t v = 0; v < TINY_VECTORS; v++)
            assert_int_equal(lists_in(family, "own_vectors", tiny_vector_name(v)),
                             t->layers[0].vectors[i][v] != NULL && i > 0);
        assert_int_equal(lists_in(family, "own_vectors", "out_norm"), i > 1);
        const int n[TINY_FAMILIES] = {0, 0, 6, 1};
        assert_int_equal(cJSON_GetArraySize(facet_json_find(family, "own_vectors")), n[i]);
    }
    facet_text text;
    facet_text_init(&text, NULL);
    facet_render(doc, &text);
    assert_non_null(strstr(facet_text_str(&text), "attn_norm"));
    facet_text_fini(&text);
    cJSON_Delete(doc);
    tiny_free(t);
    assert_int_equal(facet_dir_remove(path, NULL), FACET_OK);
}

static cJSON *with_proof(const char *text, bool json)
{
    assert_int_equal(facet_file_write(proof_path, text, strlen(text), true, NULL), FACET_OK);
    return describe(json);
}

static double number(const cJSON *row, const char *name)
{
    const cJSON *item = facet_json_find(row, name);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static void test_proof(void **state)
{
    (void)state;
    tiny *t = tiny_new(&tiny_plain);
    tiny_write(t, path, NULL, NULL);
    tiny_free(t);
    static const char whole[] =
        "{\"kind\":\"proof\",\"families\":[{\"name\":\"some\",\"calibration_tokens\":800,"
        "\"held_tokens\":200,\"agree_positions\":0.75,\"agree_answers\":0.5,\"perplexity\":{"
        "\"dense\":8,\"family\":9,\"others\":{\"all\":8,"
        "\"one\":31,\"x\":\"y\"},\"random\":50}},{\"name\":\"one\",\"calibration_tokens\":5}]}";
    cJSON *doc = with_proof(whole, false);
    const cJSON *rows = facet_json_find(doc, "proof");
    assert_int_equal(cJSON_GetArraySize(rows), 2);
    static const struct {
        const char *name;
        double value;
    } facts[] = {{"calibration_tokens", 800},
                 {"held_tokens", 200},
                 {"ppl_dense", 8},
                 {"own", 9},
                 {"worst_other", 31},
                 {"random", 50},
                 {"own_over_dense", 1.125},
                 {"agree_positions", 0.75},
                 {"agree_answers", 0.5}};
    for (size_t i = 0; i < FACET_COUNT_OF(facts); i++) {
        assert_true(number(rows->child, facts[i].name) == facts[i].value);
        if (i > 0) assert_true(cJSON_IsNull(facet_json_find(rows->child->next, facts[i].name)));
    }
    cJSON_Delete(doc);
    // Programs get the file as it is.
    doc = with_proof(whole, true);
    assert_string_equal(facet_json_find(facet_json_find(doc, "proof"), "kind")->valuestring,
                        "proof");
    cJSON_Delete(doc);
    static const char *const odd[] = {"3",
                                      "[]",
                                      "null",
                                      "{}",
                                      "{\"families\":7}",
                                      "{\"families\":[]}",
                                      "{\"families\":[3,{\"name\":3,\"perplexity\":[1]}]}",
                                      "{\"families\":{\"a\":{\"perplexity\":{\"others\":1}}}}"};
    for (size_t i = 0; i < FACET_COUNT_OF(odd); i++) {
        facet_text text;
        facet_text_init(&text, NULL);
        doc = with_proof(odd[i], false);
        assert_true(cJSON_IsArray(facet_json_find(doc, "proof")));
        facet_render(doc, &text);
        assert_non_null(strstr(facet_text_str(&text), "proof"));
        facet_text_fini(&text);
        cJSON_Delete(doc);
    }
    assert_int_equal(facet_dir_remove(path, NULL), FACET_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nested),
                                       cmocka_unit_test(test_own_vectors),
                                       cmocka_unit_test(test_proof)};
    tiny_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/tiny.facet", dir);
    snprintf(proof_path, sizeof proof_path, "%s/proof.json", path);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tiny_remove(dir);
    return failed;
}
