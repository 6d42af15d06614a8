// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE // sched_getaffinity
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include "base/memory.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define PAUSE() _mm_pause()
#else
#define PAUSE() ((void)0)
#endif

// Spins before a waiter sleeps: about 20 to 50 microseconds, longer than any stage's imbalance.
// A decode step has a barrier every few microseconds, so sleeping there costs more than it saves.
#define SPINS 4000u

// One waiting place: a counter that only grows, and a lock for those who sleep.
typedef struct gate {
    _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} gate;

typedef struct worker {
    facet_pool *pool;
    uint32_t index;
    pthread_t thread;
} worker;

struct facet_pool {
    const facet_alloc *alloc;
    uint32_t n_threads, n_started;
    uint32_t spins;
    facet_pool_fn *fn; // NULL asks the workers to end
    void *ctx;
    gate start;               // value: how many runs have begun
    gate phase;               // value: how many barriers are complete
    _Atomic uint32_t arrived; // at the current barrier
    worker *workers;
};

static void gate_init(gate *g)
{
    atomic_init(&g->value, 0);
    atomic_init(&g->sleepers, 0);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
}

static void gate_fini(gate *g)
{
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

static void gate_wait(gate *g, uint32_t old, uint32_t spins)
{
    for (uint32_t i = 0; i < spins; i++) {
        if (atomic_load_explicit(&g->value, memory_order_acquire) != old) return;
        PAUSE();
    }
    pthread_mutex_lock(&g->lock);
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->value) == old)
        pthread_cond_wait(&g->changed, &g->lock);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->lock);
}

// Sequentially consistent on both sides: either the opener sees the sleeper, or the sleeper, who
// looks at the value again after announcing itself, sees the new value.
static void gate_open(gate *g)
{
    atomic_fetch_add(&g->value, 1);
    if (atomic_load(&g->sleepers) == 0) return;
    pthread_mutex_lock(&g->lock);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

unsigned facet_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        const int n = CPU_COUNT(&set);
        if (n > 0) return (unsigned)n;
    }
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1u;
}

static void *work(void *argument)
{
    worker *self = argument;
    facet_pool *pool = self->pool;
    for (uint32_t run = 0;; run++) {
        gate_wait(&pool->start, run, pool->spins);
        if (!pool->fn) return NULL;
        pool->fn(pool->ctx, self->index, pool->n_threads);
        facet_pool_barrier(pool);
    }
}

static facet_status start_workers(facet_pool *pool, facet_err *err)
{
    for (uint32_t i = 1; i < pool->n_threads; i++) {
        worker *w = &pool->workers[i];
        *w = (worker){.pool = pool, .index = i};
        if (pthread_create(&w->thread, NULL, work, w) != 0)
            return facet_fail(err, FACET_NO_MEMORY,
                              "threads: cannot start thread %u; use fewer with --threads", i + 1);
        pool->n_started = i;
    }
    return FACET_OK;
}

facet_status facet_pool_new(uint32_t n_threads, const facet_alloc *alloc, facet_pool **out,
                            facet_err *err)
{
    if (n_threads < 1 || n_threads > 1024)
        return facet_fail(err, FACET_BAD_INPUT,
                          "threads: %u is not in 1..1024; choose another number", n_threads);
    facet_pool *pool = facet_mem_new(alloc, 1, sizeof *pool);
    if (!pool) return facet_fail_memory(err, sizeof *pool);
    pool->alloc = alloc;
    pool->n_threads = n_threads;
    pool->spins = n_threads <= facet_cores() ? SPINS : 0;
    gate_init(&pool->start);
    gate_init(&pool->phase);
    atomic_init(&pool->arrived, 0);
    pool->workers = facet_mem_new(alloc, n_threads, sizeof *pool->workers);
    const facet_status status = pool->workers
                                    ? start_workers(pool, err)
                                    : facet_fail_memory(err, n_threads * sizeof *pool->workers);
    if (status != FACET_OK) {
        facet_pool_free(pool);
        return status;
    }
    *out = pool;
    return FACET_OK;
}

void facet_pool_free(facet_pool *pool)
{
    if (!pool) return;
    pool->fn = NULL;
    gate_open(&pool->start);
    for (uint32_t i = 1; i <= pool->n_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    gate_fini(&pool->start);
    gate_fini(&pool->phase);
    facet_mem_free(pool->alloc, pool->workers);
    facet_mem_free(pool->alloc, pool);
}

uint32_t facet_pool_threads(const facet_pool *pool)
{
    return pool->n_threads;
}

void facet_pool_run(facet_pool *pool, facet_pool_fn *fn, void *ctx)
{
    pool->fn = fn;
    pool->ctx = ctx;
    gate_open(&pool->start);
    fn(ctx, 0, pool->n_threads);
    facet_pool_barrier(pool);
}

void facet_pool_barrier(facet_pool *pool)
{
    const uint32_t phase = atomic_load_explicit(&pool->phase.value, memory_order_relaxed);
    const uint32_t before = atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel);
    if (before + 1 == pool->n_threads) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        gate_open(&pool->phase);
    } else {
        gate_wait(&pool->phase, phase, pool->spins);
    }
}
