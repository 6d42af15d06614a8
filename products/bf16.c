// SPDX-License-Identifier: Apache-2.0
// Products of BF16 by oneDNN, which is loaded when the first is asked for: a library of tens of
// megabytes that serving never needs. Its interface was changed between versions 2 and 3; the
// headers that facet was built with say which one is loaded.
//
// A product is cut into panels that fit the second-level cache beside their result: operands are
// rounded into scratch of the calling thread, and panels along k add up in float32.
#include "products/product.h"

#if !defined(FACET_ONEDNN) || !defined(__x86_64__)

bool facet_bf16_has(void)
{
    return false;
}

void facet_bf16_round(uint16_t *dst, const float *x, size_t n)
{
    (void)dst, (void)x, (void)n;
}

void facet_bf16_run(const facet_gemm *gemm)
{
    facet_gemm_run(gemm, FACET_PRECISION_F32);
}

#else

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <string.h>

#include "base/attr.h"

#define PANEL_M 256u
#define PANEL_N 512u
#define PANEL_K 1024u
#define STRIP   4u // panels of a that share one rounding of each panel of b

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
#define LIBRARY    "libdnnl.so." TEXT(DNNL_VERSION_MAJOR)

// The functions of oneDNN that are used, by the types that its header gives them.
#define FUNCTIONS(F)                                                                               \
    F(dnnl_get_effective_cpu_isa)                                                                  \
    F(dnnl_engine_create)                                                                          \
    F(dnnl_engine_destroy)                                                                         \
    F(dnnl_stream_create)                                                                          \
    F(dnnl_stream_destroy)                                                                         \
    F(dnnl_stream_wait)                                                                            \
    F(dnnl_post_ops_create)                                                                        \
    F(dnnl_post_ops_destroy)                                                                       \
    F(dnnl_post_ops_append_sum)                                                                    \
    F(dnnl_primitive_attr_create)                                                                  \
    F(dnnl_primitive_attr_destroy)                                                                 \
    F(dnnl_primitive_attr_set_post_ops)                                                            \
    F(dnnl_primitive_desc_destroy)                                                                 \
    F(dnnl_primitive_create)                                                                       \
    F(dnnl_primitive_destroy)                                                                      \
    F(dnnl_primitive_execute)                                                                      \
    F(dnnl_memory_create)                                                                          \
    F(dnnl_memory_destroy)                                                                         \
    FUNCTIONS_OF_VERSION(F)

#if DNNL_VERSION_MAJOR >= 3
#define FUNCTIONS_OF_VERSION(F)                                                                    \
    F(dnnl_memory_desc_create_with_strides)                                                        \
    F(dnnl_memory_desc_destroy)                                                                    \
    F(dnnl_matmul_primitive_desc_create)
#else
#define FUNCTIONS_OF_VERSION(F)                                                                    \
    F(dnnl_memory_desc_init_by_strides)                                                            \
    F(dnnl_matmul_desc_init)                                                                       \
    F(dnnl_primitive_desc_create)
#endif

#define FIELD(name) FACET_TYPE_OF(&name) name;
typedef struct onednn {
    bool usable;
    dnnl_engine_t engine;
    // Its products run on the caller's thread: these set OpenMP's count for the calling thread.
    void (*omp_set_num_threads)(int);
    int (*omp_get_max_threads)(void);
    FUNCTIONS(FIELD)
} onednn;

static onednn dnn;
static pthread_once_t loaded = PTHREAD_ONCE_INIT;

// A function's address by name. The standard has no conversion from the pointer that dlsym gives.
static bool find(void *library, const char *name, void *function)
{
    void *const address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

#define FIND(name) found = find(library, #name, &dnn.name) && found;
static void load(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    bool found = find(library, "omp_set_num_threads", &dnn.omp_set_num_threads) &&
                 find(library, "omp_get_max_threads", &dnn.omp_get_max_threads);
    FUNCTIONS(FIND)
    if (!found) return;
    const unsigned wanted = dnnl_cpu_isa_avx512_core_bf16;
    if (((unsigned)dnn.dnnl_get_effective_cpu_isa() & wanted) != wanted) return;
    dnn.usable = dnn.dnnl_engine_create(&dnn.engine, dnnl_cpu, 0) == dnnl_success;
}

bool facet_bf16_has(void)
{
    pthread_once(&loaded, load);
    return dnn.usable;
}

// ---- one panel --------------------------------------------------------------------------------

// Operands of the calling thread. Pages of a thread that multiplies nothing are never touched.
static _Thread_local struct {
    _Alignas(64) uint16_t a[STRIP][PANEL_M * PANEL_K];
    uint16_t b[PANEL_N * PANEL_K];
} scratch;

// BF16 of alpha * x, ties to even; NaN stays NaN.
FACET_TARGET("avx512f,avx512bw,avx512vl")
static void round_row(uint16_t *restrict dst, const float *restrict x, size_t n, float alpha)
{
    for (size_t i = 0; i < n; i++) {
        const float value = alpha * x[i];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        const uint32_t nan = bits >> 16 | 0x40u;
        dst[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
    }
}

void facet_bf16_round(uint16_t *dst, const float *x, size_t n)
{
    round_row(dst, x, n, 1);
}

static float widen(uint16_t x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void round_panel(uint16_t *dst, const float *src, size_t rows, size_t columns, size_t stride,
                        float alpha)
{
    for (size_t row = 0; row < rows; row++)
        round_row(dst + row * columns, src + row * stride, columns, alpha);
}

// A matrix of rows with a stride as oneDNN sees it: (rows, columns), or its transpose.
typedef struct view {
    dnnl_dims_t dims, strides;
    dnnl_data_type_t type;
    void *data;
} view;

static view view_of(size_t rows, size_t columns, bool transposed, void *data, size_t stride)
{
    return (view){{(dnnl_dim_t)rows, (dnnl_dim_t)columns},
                  {transposed ? 1 : (dnnl_dim_t)stride, transposed ? (dnnl_dim_t)stride : 1},
                  dnnl_bf16,
                  data};
}

enum { VIEW_A, VIEW_B, VIEW_C, VIEWS };

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t view_desc;

static bool desc_new(view_desc *desc, const view *v)
{
    return dnn.dnnl_memory_desc_create_with_strides(desc, 2, v->dims, v->type, v->strides) ==
           dnnl_success;
}

static void desc_free(view_desc *desc)
{
    if (*desc) dnn.dnnl_memory_desc_destroy(*desc);
}

static bool memory_new(dnnl_memory_t *memory, const view_desc *desc, const view *v)
{
    return dnn.dnnl_memory_create(memory, *desc, dnn.engine, v->data) == dnnl_success;
}

static bool product_new(dnnl_primitive_desc_t *product, const view_desc descs[VIEWS],
                        dnnl_primitive_attr_t attr)
{
    return dnn.dnnl_matmul_primitive_desc_create(product, dnn.engine, descs[VIEW_A], descs[VIEW_B],
                                                 NULL, descs[VIEW_C], attr) == dnnl_success;
}

static bool sum_append(dnnl_post_ops_t ops)
{
    return dnn.dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef) == dnnl_success;
}
#else
typedef dnnl_memory_desc_t view_desc;

static bool desc_new(view_desc *desc, const view *v)
{
    return dnn.dnnl_memory_desc_init_by_strides(desc, 2, v->dims, v->type, v->strides) ==
           dnnl_success;
}

static void desc_free(view_desc *desc)
{
    (void)desc;
}

static bool memory_new(dnnl_memory_t *memory, const view_desc *desc, const view *v)
{
    return dnn.dnnl_memory_create(memory, desc, dnn.engine, v->data) == dnnl_success;
}

static bool product_new(dnnl_primitive_desc_t *product, const view_desc descs[VIEWS],
                        dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t desc;
    return dnn.dnnl_matmul_desc_init(&desc, &descs[VIEW_A], &descs[VIEW_B], NULL, &descs[VIEW_C]) ==
               dnnl_success &&
           dnn.dnnl_primitive_desc_create(product, &desc, attr, dnn.engine, NULL) == dnnl_success;
}

static bool sum_append(dnnl_post_ops_t ops)
{
    return dnn.dnnl_post_ops_append_sum(ops, 1.0f) == dnnl_success;
}
#endif

// What an execution needs. Making it anew costs microseconds, as oneDNN keeps compiled kernels;
// whatever was made is freed by panel_free.
typedef struct panel {
    view_desc descs[VIEWS];
    dnnl_memory_t memory[VIEWS];
    dnnl_stream_t stream;
    dnnl_post_ops_t ops;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
} panel;

static bool panel_new(panel *p, const view views[VIEWS], bool add)
{
    for (int i = 0; i < VIEWS; i++)
        if (!desc_new(&p->descs[i], &views[i]) ||
            !memory_new(&p->memory[i], &p->descs[i], &views[i]))
            return false;
    return dnn.dnnl_stream_create(&p->stream, dnn.engine, dnnl_stream_default_flags) ==
               dnnl_success &&
           dnn.dnnl_post_ops_create(&p->ops) == dnnl_success && (!add || sum_append(p->ops)) &&
           dnn.dnnl_primitive_attr_create(&p->attr) == dnnl_success &&
           dnn.dnnl_primitive_attr_set_post_ops(p->attr, p->ops) == dnnl_success &&
           product_new(&p->desc, p->descs, p->attr) &&
           dnn.dnnl_primitive_create(&p->primitive, p->desc) == dnnl_success;
}

static void panel_free(panel *p)
{
    if (p->primitive) dnn.dnnl_primitive_destroy(p->primitive);
    if (p->desc) dnn.dnnl_primitive_desc_destroy(p->desc);
    if (p->attr) dnn.dnnl_primitive_attr_destroy(p->attr);
    if (p->ops) dnn.dnnl_post_ops_destroy(p->ops);
    if (p->stream) dnn.dnnl_stream_destroy(p->stream);
    for (int i = 0; i < VIEWS; i++) {
        if (p->memory[i]) dnn.dnnl_memory_destroy(p->memory[i]);
        desc_free(&p->descs[i]);
    }
}

static bool panel_run(const view views[VIEWS], bool add)
{
    panel p = {0};
    bool done = panel_new(&p, views, add);
    if (done) {
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p.memory[VIEW_A]},
                                        {DNNL_ARG_WEIGHTS, p.memory[VIEW_B]},
                                        {DNNL_ARG_DST, p.memory[VIEW_C]}};
        done = dnn.dnnl_primitive_execute(p.primitive, p.stream, VIEWS, args) == dnnl_success &&
               dnn.dnnl_stream_wait(p.stream) == dnnl_success;
    }
    panel_free(&p);
    return done;
}

// ---- a product --------------------------------------------------------------------------------

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

typedef struct place {
    size_t i, j, k; // of the panel in c and along the sum
    size_t m, n, depth;
} place;

static size_t b_at(const facet_gemm *g, size_t j, size_t k)
{
    return g->b_transposed ? j * g->stride_b + k : k * g->stride_b + j;
}

// What is left to do when oneDNN cannot: one panel, one number at a time.
static void panel_plain(const facet_gemm *g, const place *p, const view *a, const view *b)
{
    const uint16_t *const as = a->data, *const bs = b->data;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++) {
            float *c = &g->c[(p->i + i) * g->stride_c + p->j + j];
            float sum = g->add || p->k > 0 ? *c : 0;
            for (size_t k = 0; k < p->depth; k++)
                sum += widen(as[i * (size_t)a->strides[0] + k * (size_t)a->strides[1]]) *
                       widen(bs[k * (size_t)b->strides[0] + j * (size_t)b->strides[1]]);
            *c = sum;
        }
}

static view b_view(const facet_gemm *g, const place *p)
{
    if (g->b_rounded) {
        // oneDNN's views are not const; it only reads this one.
        uint16_t *data;
        const uint16_t *const rounded = g->b_rounded + b_at(g, p->j, p->k);
        memcpy(&data, &rounded, sizeof data);
        return view_of(p->depth, p->n, g->b_transposed, data, g->stride_b);
    }
    const size_t rows = g->b_transposed ? p->n : p->depth;
    const size_t columns = g->b_transposed ? p->depth : p->n;
    round_panel(scratch.b, g->b + b_at(g, p->j, p->k), rows, columns, g->stride_b, 1);
    return view_of(p->depth, p->n, g->b_transposed, scratch.b, columns);
}

static view a_view(const facet_gemm *g, const place *p, uint16_t *rounded)
{
    const size_t rows = g->a_transposed ? p->depth : p->m;
    const size_t columns = g->a_transposed ? p->m : p->depth;
    const size_t at = g->a_transposed ? p->k * g->stride_a + p->i : p->i * g->stride_a + p->k;
    round_panel(rounded, g->a + at, rows, columns, g->stride_a, g->alpha);
    return view_of(p->m, p->depth, g->a_transposed, rounded, columns);
}

// c at a place: panels a and b are rounded.
static void place_run(const facet_gemm *g, const place *p, const view *a, const view *b)
{
    const view c = {{(dnnl_dim_t)p->m, (dnnl_dim_t)p->n},
                    {(dnnl_dim_t)g->stride_c, 1},
                    dnnl_f32,
                    g->c + p->i * g->stride_c + p->j};
    if (!panel_run((const view[VIEWS]){*a, *b, c}, g->add || p->k > 0)) panel_plain(g, p, a, b);
}

// All columns of c for a strip of its rows, i.., and k.. of the sum.
static void strip_run(const facet_gemm *g, size_t i, size_t k)
{
    place places[STRIP];
    view as[STRIP];
    size_t n = 0;
    for (; n < STRIP && i < g->m; i += PANEL_M, n++) {
        places[n] = (place){
            .i = i, .k = k, .m = least(g->m - i, PANEL_M), .depth = least(g->k - k, PANEL_K)};
        as[n] = a_view(g, &places[n], scratch.a[n]);
    }
    for (size_t j = 0; j < g->n; j += PANEL_N) {
        for (size_t s = 0; s < n; s++) {
            places[s].j = j;
            places[s].n = least(g->n - j, PANEL_N);
        }
        const view b = b_view(g, &places[0]);
        for (size_t s = 0; s < n; s++)
            place_run(g, &places[s], &as[s], &b);
    }
}

void facet_bf16_run(const facet_gemm *g)
{
    if (!facet_bf16_has()) {
        facet_gemm_run(g, FACET_PRECISION_F32);
        return;
    }
    const int threads = dnn.omp_get_max_threads();
    dnn.omp_set_num_threads(1);
    for (size_t k = 0; k < g->k; k += PANEL_K)
        for (size_t i = 0; i < g->m; i += STRIP * PANEL_M)
            strip_run(g, i, k);
    dnn.omp_set_num_threads(threads);
}

#endif
