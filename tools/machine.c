// SPDX-License-Identifier: Apache-2.0
#include "tools/machine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/threads.h"
#include "runtime/isa.h"
#include "tools/output.h"

// ---- facts of the system
// ----------------------------------------------------------------------------

static void find_cpu(char *out, size_t capacity)
{
    (void)snprintf(out, capacity, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL) continue;
        line[strcspn(line, "\n")] = '\0';
        (void)snprintf(out, capacity, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    if (file != NULL) (void)fclose(file);
}

static bool read_line(const char *path, char *line, int capacity)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) return false;
    bool ok = fgets(line, capacity, file) != NULL;
    (void)fclose(file);
    if (ok) line[strcspn(line, "\n")] = '\0';
    return ok;
}

// The largest cache that the first core sees.
static uint64_t find_last_cache(void)
{
    uint64_t best = 0;
    for (int i = 0; i < 8; i++) {
        char path[96], line[32];
        (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        if (!read_line(path, line, (int)sizeof line)) break;
        size_t n = strlen(line);
        uint64_t scale = n > 0 && line[n - 1] == 'M'   ? 1 << 20
                         : n > 0 && line[n - 1] == 'K' ? 1024
                                                       : 1;
        if (scale > 1) line[n - 1] = '\0';
        uint64_t value;
        if (facet_parse_u64(line, &value) && value * scale > best) best = value * scale;
    }
#ifdef _SC_LEVEL3_CACHE_SIZE
    // Containers may have no /sys; the C library asks the processor.
    static const int levels[] = {_SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE};
    for (size_t i = 0; i < FACET_COUNT_OF(levels) && best == 0; i++) {
        const long bytes = sysconf(levels[i]);
        if (bytes > 0) best = (uint64_t)bytes;
    }
#endif
    return best;
}

// ---- streaming read
// ---------------------------------------------------------------------------------

typedef struct reader {
    const uint64_t *words;
    size_t n; // a multiple of 8 for every thread's share
    uint64_t sums[1024];
} reader;

static void read_share(void *ctx, uint32_t thread, uint32_t n_threads)
{
    reader *r = ctx;
    const size_t lines = r->n / 8;
    const size_t begin = lines * thread / n_threads * 8, end = lines * (thread + 1) / n_threads * 8;
    uint64_t sum[8] = {0};
    for (size_t i = begin; i < end; i += 8)
        for (size_t k = 0; k < 8; k++)
            sum[k] += r->words[i + k];
    for (size_t k = 1; k < 8; k++)
        sum[0] += sum[k];
    r->sums[thread % 1024] = sum[0]; // kept, so that the loop is
}

typedef struct writer {
    uint64_t *words;
    size_t n;
} writer;

static void write_share(void *ctx, uint32_t thread, uint32_t n_threads)
{
    const writer *w = ctx;
    const size_t lines = w->n / 8;
    for (size_t i = lines * thread / n_threads * 8; i < lines * (thread + 1) / n_threads * 8; i++)
        w->words[i] = i;
}

// The best of a few passes: the machine's limit, not its mood.
static facet_status measure_read(facet_machine *machine, facet_err *err)
{
    enum { PASSES = 4 };
    uint64_t bytes = 1ull << 30;
    if (machine->l3_bytes * 8 > bytes) bytes = machine->l3_bytes * 8;
    writer w = {.n = (size_t)(bytes / sizeof(uint64_t))};
    w.words = facet_mem_new_aligned(NULL, w.n, sizeof *w.words);
    if (w.words == NULL) return facet_fail_memory(err, (size_t)bytes);
    facet_pool *pool;
    facet_status status = facet_pool_new(machine->n_threads, NULL, &pool, err);
    if (status == FACET_OK) {
        reader r = {.words = w.words, .n = w.n}; // 8 KiB
        facet_pool_run(pool, write_share, &w);
        for (int i = 0; i < PASSES; i++) {
            const uint64_t begin = facet_clock_ns();
            facet_pool_run(pool, read_share, &r);
            const double rate = (double)bytes / facet_clock_seconds(begin) * 1e-9;
            if (rate > machine->read_gb_per_s) machine->read_gb_per_s = rate;
        }
        facet_pool_free(pool);
    }
    facet_mem_free_aligned(NULL, w.words);
    return status;
}

facet_status facet_machine_find(const facet_tool *tool, facet_machine *out, facet_err *err)
{
    facet_machine machine = {
        .isa = facet_isa_best(tool->env.isa),
        .cores = facet_cores(),
        .n_threads = tool->n_threads,
        .l3_bytes = find_last_cache(),
    };
    find_cpu(machine.cpu, sizeof machine.cpu);
    facet_status status = measure_read(&machine, err);
    if (status == FACET_NO_MEMORY) {
        facet_output_warn(tool, "streaming read not measured: no memory for its buffer");
        status = FACET_OK;
    }
    if (status == FACET_OK) *out = machine;
    return status;
}
