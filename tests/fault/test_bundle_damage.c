// SPDX-License-Identifier: Apache-2.0
// Damaged and unsafe bundles: each is refused with its own status and a sentence that names the
// file, and nothing leaks (run under ASAN).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <facet.h>

#include "base/file.h"
#include "base/memory.h"
#include "tests/support/tiny.h"

static char dir[4096], bundle_path[4200], object_path[4200];

static int make(void **state)
{
    (void)state;
    facet_err err;
    tiny_dir(dir, sizeof dir);
    snprintf(bundle_path, sizeof bundle_path, "%s/tiny.facet", dir);
    snprintf(object_path, sizeof object_path, "%s/object", dir);
    if (facet_file_write(object_path, "not an object", 13, false, &err)) return -1;
    tiny *t = tiny_new(&tiny_plain);
    tiny_write(t, bundle_path, object_path, "x86-64-v3");
    tiny_free(t);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    tiny_remove(dir);
    return 0;
}

static const char *in(const char *name)
{
    static char path[4300];
    snprintf(path, sizeof path, "%s/%s", bundle_path, name);
    return path;
}

static void refused(facet_mode mode, facet_status status, const char *word)
{
    const facet_open_opts opts = {.mode = mode};
    facet_bundle *bundle = NULL;
    facet_err err = {0};
    const facet_status got = facet_open(bundle_path, &opts, &bundle, &err);
    if (got != status) fail_msg("status %d, not %d: %s", got, status, err.message);
    assert_int_equal(err.code, status);
    assert_null(bundle);
    if (!strstr(err.message, word)) fail_msg("no \"%s\" in: %s", word, err.message);
}

static void opens(void)
{
    const facet_open_opts opts = {.mode = FACET_MODE_GENERIC};
    facet_bundle *bundle = NULL;
    assert_int_equal(facet_open(bundle_path, &opts, &bundle, NULL), FACET_OK);
    facet_close(bundle);
}

// Turns one bit of a file over.
static void flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    const int c = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    fputc(c ^ 1, file);
    assert_int_equal(fclose(file), 0);
}

static void edit_manifest(const char *from, const char *to)
{
    char *text = NULL, *edited;
    size_t bytes = 0;
    facet_err err;
    assert_int_equal(facet_file_read(in("manifest.json"), 1u << 24, NULL, &text, &bytes, &err), 0);
    char *at = strstr(text, from);
    assert_non_null(at);
    edited = calloc(bytes + strlen(to) + 1, 1);
    assert_non_null(edited);
    memcpy(edited, text, (size_t)(at - text));
    strcat(edited, to);
    strcat(edited, at + strlen(from));
    assert_int_equal(facet_file_write(in("manifest.json"), edited, strlen(edited), true, &err), 0);
    free(edited);
    facet_mem_free(NULL, text);
}

static void test_missing(void **state)
{
    (void)state;
    static const char *const names[] = {"manifest.json", "weights.bin", "tokenizer.bin",
                                        "families/some.bin", "kernels/tiny.so"};
    for (size_t i = 0; i < FACET_COUNT_OF(names); i++) {
        char aside[4400];
        snprintf(aside, sizeof aside, "%s.aside", in(names[i]));
        assert_int_equal(rename(in(names[i]), aside), 0);
        refused(FACET_MODE_GENERIC, FACET_NOT_FOUND, names[i]);
        assert_int_equal(rename(aside, in(names[i])), 0);
        opens();
    }
    facet_bundle *bundle = NULL;
    facet_err err;
    assert_int_equal(facet_open("/nowhere.facet", NULL, &bundle, &err), FACET_NOT_FOUND);
    assert_int_equal(facet_open(object_path, NULL, &bundle, &err), FACET_BAD_INPUT);
}

static void test_sizes(void **state)
{
    (void)state;
    static const char *const names[] = {"weights.bin", "tokenizer.bin", "families/some.bin"};
    for (size_t i = 0; i < FACET_COUNT_OF(names); i++) {
        struct stat info;
        assert_int_equal(stat(in(names[i]), &info), 0);
        char *data = NULL;
        size_t bytes = 0;
        assert_int_equal(facet_file_read(in(names[i]), 1u << 24, NULL, &data, &bytes, NULL), 0);
        assert_int_equal(truncate(in(names[i]), info.st_size - 1), 0);
        refused(FACET_MODE_GENERIC, FACET_BAD_FILE, names[i]);
        assert_int_equal(truncate(in(names[i]), info.st_size + 1), 0);
        refused(FACET_MODE_GENERIC, FACET_BAD_FILE, names[i]);
        assert_int_equal(facet_file_write(in(names[i]), data, bytes, true, NULL), 0);
        facet_mem_free(NULL, data);
        opens();
    }
}

static void test_kernel_bit(void **state)
{
    (void)state;
    flip(in("kernels/tiny.so"), 3);
    refused(FACET_MODE_GENERIC, FACET_BAD_FILE, "checksum");
    refused(FACET_MODE_AUTO, FACET_BAD_FILE, "tiny.so");
    flip(in("kernels/tiny.so"), 3);
    opens();
}

static void test_tokenizer(void **state)
{
    (void)state;
    for (long at = 0; at < 16; at++) {
        const facet_open_opts opts = {.mode = FACET_MODE_GENERIC};
        facet_bundle *bundle = NULL;
        facet_err err;
        flip(in("tokenizer.bin"), at);
        if (facet_open(bundle_path, &opts, &bundle, &err) == FACET_OK) facet_close(bundle);
        flip(in("tokenizer.bin"), at);
    }
    opens();
}

// The channel order lies in a file that is not summed at open, and kernels write through it.
static void test_perm(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    facet_err err;
    facet_manifest manifest;
    assert_int_equal(facet_file_read(in("manifest.json"), 1u << 24, NULL, &text, &bytes, &err), 0);
    assert_int_equal(facet_manifest_parse(text, bytes, "manifest", NULL, &manifest, &err), 0);
    const facet_entry *perm =
        facet_manifest_entry(manifest.entries, manifest.n_entries, 1, FACET_ENTRY_PERM);
    assert_non_null(perm);
    flip(in("weights.bin"), (long)perm->offset);
    refused(FACET_MODE_GENERIC, FACET_BAD_FILE, "permutation");
    flip(in("weights.bin"), (long)perm->offset);
    flip(in("weights.bin"), (long)perm->offset + 2);
    refused(FACET_MODE_GENERIC, FACET_BAD_FILE, "permutation");
    flip(in("weights.bin"), (long)perm->offset + 2);
    opens();
    facet_manifest_fini(&manifest);
    facet_mem_free(NULL, text);
}

static void test_permissions(void **state)
{
    (void)state;
    static const char *const names[] = {"", "kernels", "families", "kernels/tiny.so",
                                        "manifest.json"};
    for (size_t i = 0; i < FACET_COUNT_OF(names); i++) {
        struct stat info;
        assert_int_equal(stat(in(names[i]), &info), 0);
        assert_int_equal(chmod(in(names[i]), info.st_mode | S_IWOTH), 0);
        refused(FACET_MODE_GENERIC, FACET_PERMISSION, "write");
        assert_int_equal(chmod(in(names[i]), info.st_mode), 0);
    }
    if (geteuid() == 0 && chown(bundle_path, 12345, 12345) == 0) {
        refused(FACET_MODE_GENERIC, FACET_PERMISSION, "12345");
        assert_int_equal(chown(bundle_path, 0, 0), 0);
    }
    opens();
}

static void test_manifest(void **state)
{
    (void)state;
    edit_manifest("\"version\"", "\"vorsion\"");
    refused(FACET_MODE_GENERIC, FACET_BAD_FILE, "version");
    edit_manifest("\"vorsion\"", "\"version\"");
    edit_manifest("\"head_dim\": 8", "\"head_dim\": 7");
    refused(FACET_MODE_GENERIC, FACET_BAD_FILE, "manifest");
    edit_manifest("\"head_dim\": 7", "\"head_dim\": 8");
    edit_manifest("\"version\": 1", "\"version\": 2");
    refused(FACET_MODE_GENERIC, FACET_UNSUPPORTED, "version 2");
    edit_manifest("\"version\": 2", "\"version\": 1");
    opens();
}

typedef struct log_lines {
    unsigned n;
    char last[512];
} log_lines;

static void write_log(void *ctx, facet_level level, const char *text)
{
    log_lines *lines = ctx;
    assert_int_equal(level, FACET_LOG_WARN);
    lines->n++;
    snprintf(lines->last, sizeof lines->last, "%s", text);
}

// An artifact that is none: auto says so once and runs portable kernels, strict refuses.
static void test_modes(void **state)
{
    (void)state;
    log_lines lines = {0};
    const facet_log log = {&lines, write_log};
    const facet_open_opts opts = {.log = &log, .mode = FACET_MODE_AUTO, .isa = "x86-64-v3"};
    facet_bundle *bundle = NULL;
    facet_err err;
    assert_int_equal(facet_open(bundle_path, &opts, &bundle, &err), FACET_OK);
    assert_int_equal(lines.n, 1);
    assert_non_null(strstr(lines.last, "portable"));
    facet_close(bundle);
    refused(FACET_MODE_STRICT, FACET_REFUSED, "--mode");
    const facet_open_opts masked = {.mode = FACET_MODE_STRICT, .isa = "generic"};
    assert_int_equal(facet_open(bundle_path, &masked, &bundle, &err), FACET_REFUSED);
    const facet_open_opts unknown = {.isa = "avx9"};
    assert_int_equal(facet_open(bundle_path, &unknown, &bundle, &err), FACET_BAD_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing),    cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_kernel_bit), cmocka_unit_test(test_tokenizer),
        cmocka_unit_test(test_perm),       cmocka_unit_test(test_permissions),
        cmocka_unit_test(test_manifest),   cmocka_unit_test(test_modes)};
    return cmocka_run_group_tests(tests, make, drop);
}
