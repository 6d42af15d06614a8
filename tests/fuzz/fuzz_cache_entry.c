// SPDX-License-Identifier: Apache-2.0
// An entry of the cache whose recipe and sum are any bytes: only the right ones are a hit. Input: a
// byte (odd: the payload is a tree), a byte with the length of the recipe, the recipe, the sum.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "cache/cache.h"

#define RECIPE  "facet recipe\ntarget x\n"
#define PAYLOAD "object code"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[64], entries[2][192]; // of a file, of a tree
static facet_cache *cache;

static void put(const char *dir, const char *name, const void *data, size_t bytes)
{
    char path[512];
    if (facet_path_join(path, sizeof path, dir, name, NULL) != FACET_OK) abort();
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, bytes) != (ssize_t)bytes) abort();
    close(fd);
}

static void remove_root(void)
{
    facet_cache_close(cache);
    facet_dir_remove(root, NULL);
}

// Recipe i is RECIPE without its first i bytes. Strict: the harness makes the entries itself.
static void set_up(void)
{
    const facet_cache_opts opts = {.root = root, .mode = FACET_CACHE_STRICT};
    char path[512];
    snprintf(root, sizeof root, "%s/facet-fuzz.XXXXXX",
             access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(root) == NULL) abort();
    snprintf(path, sizeof path, "%s/entries", root);
    if (mkdir(path, 0700) != 0) abort();
    for (int i = 0; i < 2; i++) {
        const facet_digest key = facet_hash(&RECIPE[i], strlen(&RECIPE[i]));
        snprintf(entries[i], sizeof entries[i], "%s/entries/%s", root, key.hex);
        if (mkdir(entries[i], 0700) != 0) abort();
    }
    put(entries[0], "payload", PAYLOAD, strlen(PAYLOAD));
    snprintf(path, sizeof path, "%s/payload", entries[1]);
    if (mkdir(path, 0700) != 0) abort();
    put(path, "a", PAYLOAD, strlen(PAYLOAD));
    put(path, "b", PAYLOAD, 3);
    if (facet_cache_open(&opts, &cache, NULL) != FACET_OK) abort();
    atexit(remove_root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (root[0] == 0) set_up();
    if (size < 2) return 0;
    const int tree = data[0] & 1;
    const size_t left = size - 2, n_recipe = data[1] < left ? data[1] : left;
    facet_cache_hit hit;
    facet_cache_item *items;
    facet_text text;
    size_t n;
    uint64_t good, bad;
    put(entries[tree], "recipe", data + 2, n_recipe);
    put(entries[tree], "sum", data + 2 + n_recipe, left - n_recipe);
    const char *recipe = &RECIPE[tree];
    const facet_status status = tree ? facet_cache_get_dir(cache, recipe, NULL, NULL, &hit, NULL)
                                     : facet_cache_get(cache, recipe, NULL, NULL, &hit, NULL);
    if (status == FACET_OK) {
        if (n_recipe != strlen(recipe) || memcmp(data + 2, recipe, n_recipe) != 0) abort();
        if (hit.bytes != strlen(PAYLOAD) + (tree ? 3 : 0)) abort();
    }
    if (facet_cache_verify(cache, &good, &bad, NULL) != FACET_OK) abort();
    if (facet_cache_list(cache, &items, &n, NULL) != FACET_OK || n != 2) abort();
    facet_text_init(&text, NULL);
    facet_cache_explain(cache, items[0].key, items[1].key, &text, NULL);
    facet_text_fini(&text);
    facet_mem_free(NULL, items);
    // Let go of the hit, or every input would keep one more descriptor.
    facet_cache_close(cache);
    const facet_cache_opts opts = {.root = root, .mode = FACET_CACHE_STRICT};
    if (facet_cache_open(&opts, &cache, NULL) != FACET_OK) abort();
    return 0;
}
