// SPDX-License-Identifier: Apache-2.0
#include "train/net.h"

#include "base/memory.h"
#include "products/each.h"

static bool of_layer(uint32_t role)
{
    return role >= FACET_ROLE_ATTN_NORM;
}

facet_param *facet_net_param(const facet_net *net, uint32_t role, uint32_t layer)
{
    return net->index[(of_layer(role) ? (size_t)layer : 0) * FACET_PARAM_ROLES + role];
}

// ---- filling ----------------------------------------------------------------------------------

// Source rows go through floats of a thread, ROWS at a time: a transposed matrix then writes whole
// cache lines.
#define ROWS 16u

typedef struct fill_job {
    const facet_tensor *tensor;
    const uint32_t *kept; // rows (of gate and up) or columns (of down) that count; NULL: all
    bool transposed;      // down: the source's columns are our rows
    facet_param *param;
    float *lanes; // (threads, ROWS, columns of the source)
} fill_job;

// Numbers first.. of a parameter.
static void put(const facet_param *param, size_t first, const float *from, size_t n)
{
    if (param->rounded) {
        facet_bf16_round(param->rounded + first, from, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        param->value[first + i] = (facet_real)from[i];
}

static void fill_item(void *ctx, uint32_t thread, uint64_t item)
{
    const fill_job *job = ctx;
    const facet_param *param = job->param;
    const size_t columns = (size_t)job->tensor->dims[0];
    const size_t n_rows = job->transposed ? param->cols : param->rows;
    const size_t first = item * ROWS, n = n_rows - first < ROWS ? n_rows - first : ROWS;
    float *lane = job->lanes + thread * ROWS * columns;
    for (size_t r = 0; r < n; r++) {
        const size_t row = job->kept && !job->transposed ? job->kept[first + r] : first + r;
        facet_tensor_row(job->tensor, row, lane + r * columns);
    }
    if (!job->transposed) put(param, first * columns, lane, n * columns);
    for (size_t i = 0; job->transposed && i < param->rows; i++) {
        float row[ROWS];
        for (size_t r = 0; r < n; r++)
            row[r] = lane[r * columns + (job->kept ? job->kept[i] : i)];
        put(param, i * param->cols + first, row, n);
    }
}

static void fill_floats(facet_param *param, const float *values)
{
    if (values) put(param, 0, values, facet_param_size(param));
}

// The caller's values of a parameter, or NULL.
static const float *given(const facet_net_opts *opts, const facet_ffn_custom *custom,
                          const facet_param *param)
{
    if (param->role == FACET_PARAM_DOWN_BIAS) return custom->bias;
    if (param->role == FACET_ROLE_DOWN) return custom->down;
    return opts->vectors ? facet_vectors_get(opts->vectors, param->role, param->layer).data : NULL;
}

static void fill(const facet_net_opts *opts, const facet_model *model, facet_param *param,
                 float *lanes)
{
    static const facet_ffn_custom none = {0};
    const facet_ffn_custom *custom = opts->custom ? &opts->custom[param->layer] : &none;
    const float *values = given(opts, custom, param);
    const uint32_t role = param->role;
    if (values || role == FACET_PARAM_DOWN_BIAS) {
        fill_floats(param, values);
        return;
    }
    const facet_tensor *tensor = facet_model_tensor(model, (facet_role)role, param->layer);
    if (FACET_ROLES_VECTOR & FACET_PARAM_BIT(role)) {
        facet_vector_read(model, (facet_role)role, tensor, lanes);
        fill_floats(param, lanes);
        return;
    }
    const bool down = role == FACET_ROLE_DOWN;
    const bool pruned = down || role == FACET_ROLE_GATE || role == FACET_ROLE_UP;
    fill_job job = {.tensor = tensor,
                    .kept = pruned ? custom->kept : NULL,
                    .transposed = down,
                    .param = param,
                    .lanes = lanes};
    const size_t n_rows = down ? param->cols : param->rows;
    facet_each(opts->pool, (n_rows + ROWS - 1) / ROWS, fill_item, &job);
}

static bool is_matrix(uint32_t role)
{
    return role != FACET_PARAM_DOWN_BIAS && !(FACET_ROLES_VECTOR & FACET_PARAM_BIT(role));
}

// ---- the list ---------------------------------------------------------------------------------

// Adds the parameter of a role if the model, or the caller, has it.
static facet_status param_add(facet_net *net, const facet_model *model, const facet_net_opts *opts,
                              const facet_param *where, facet_err *err)
{
    const uint32_t role = where->role, layer = where->layer;
    const facet_ffn_custom *custom = opts->custom ? &opts->custom[layer] : NULL;
    const uint32_t n_kept = custom ? custom->n_kept : model->hp.d_ff;
    const bool trained = opts->train & FACET_PARAM_BIT(role);
    facet_param param = {.role = role, .layer = layer, .rows = 1, .cols = model->hp.d_model};
    if (role == FACET_PARAM_DOWN_BIAS) {
        if (!trained && !(custom && custom->bias)) return FACET_OK;
    } else {
        const facet_tensor *tensor = facet_model_tensor(model, (facet_role)role, layer);
        if (!tensor || role == FACET_ROLE_ROPE_FREQS) return FACET_OK;
        if (role == FACET_ROLE_HEAD && model->tied) return FACET_OK;
        param.rows = (uint32_t)tensor->dims[1];
        param.cols = (uint32_t)tensor->dims[0];
        if (role == FACET_ROLE_GATE || role == FACET_ROLE_UP) param.rows = n_kept;
        if (role == FACET_ROLE_DOWN) param.rows = n_kept, param.cols = model->hp.d_model;
    }
    facet_param *own = &net->params[net->n_params];
    net->index[(size_t)layer * FACET_PARAM_ROLES + role] = own;
    net->n_params++;
    *own = param;
    const bool in_model = role == FACET_ROLE_TOKEN_EMBD && !model->tied && !trained;
    if (in_model) return FACET_OK;
    const bool rounded =
        opts->precision == FACET_PRECISION_BF16 && facet_bf16_has() && !trained && is_matrix(role);
    if (rounded)
        own->rounded = facet_mem_new_aligned(net->alloc, param.rows, param.cols * sizeof(uint16_t));
    else
        own->value = facet_mem_new_aligned(net->alloc, param.rows, param.cols * sizeof *own->value);
    if (trained)
        own->grad = facet_mem_new_aligned(net->alloc, param.rows, param.cols * sizeof *own->grad);
    if ((!own->value && !own->rounded) || (trained && !own->grad))
        return facet_fail_memory(err, facet_param_size(&param) * sizeof *own->value);
    if (trained) net->n_trained += facet_param_size(&param);
    return FACET_OK;
}

static facet_status params_add(facet_net *net, const facet_model *model, const facet_net_opts *opts,
                               facet_err *err)
{
    for (uint32_t role = 0; role < FACET_PARAM_ROLES; role++)
        if (!of_layer(role))
            FACET_TRY(param_add(net, model, opts, &(facet_param){.role = role}, err));
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++)
        for (uint32_t role = FACET_ROLE_ATTN_NORM; role < FACET_PARAM_ROLES; role++)
            FACET_TRY(
                param_add(net, model, opts, &(facet_param){.role = role, .layer = layer}, err));
    if (model->tied) net->index[FACET_ROLE_HEAD] = net->index[FACET_ROLE_TOKEN_EMBD];
    return FACET_OK;
}

static facet_status values_load(facet_net *net, const facet_model *model,
                                const facet_net_opts *opts, facet_err *err)
{
    size_t columns = 1, n;
    for (uint32_t i = 0; i < model->n_tensors; i++)
        if (model->tensors[i].dims[0] > columns) columns = (size_t)model->tensors[i].dims[0];
    if (!facet_mul_size(columns, (size_t)ROWS * facet_pool_threads(opts->pool), &n))
        return facet_fail_memory(err, SIZE_MAX);
    float *lanes = facet_mem_new_aligned(net->alloc, n, sizeof *lanes);
    if (!lanes) return facet_fail_memory(err, n * sizeof *lanes);
    for (uint32_t i = 0; i < net->n_params; i++)
        if (net->params[i].value || net->params[i].rounded)
            fill(opts, model, &net->params[i], lanes);
    facet_mem_free_aligned(net->alloc, lanes);
    return FACET_OK;
}

static facet_status net_build(facet_net *net, const facet_model *model, const facet_net_opts *opts,
                              facet_err *err)
{
    const size_t most = ((size_t)model->hp.n_layers + 1) * FACET_PARAM_ROLES;
    for (uint32_t layer = 0; opts->custom && layer < model->hp.n_layers; layer++)
        FACET_TRY(facet_ffn_custom_check(&opts->custom[layer], model->hp.d_ff, err));
    net->params = facet_mem_new(net->alloc, most, sizeof *net->params);
    net->index = facet_mem_new(net->alloc, most, sizeof *net->index);
    if (!net->params || !net->index) return facet_fail_memory(err, most * sizeof *net->params);
    FACET_TRY(params_add(net, model, opts, err));
    return values_load(net, model, opts, err);
}

facet_status facet_net_new(const facet_model *model, const facet_net_opts *opts, facet_net **out,
                           facet_err *err)
{
    facet_net *net = facet_mem_new(opts->alloc, 1, sizeof *net);
    if (!net) return facet_fail_memory(err, sizeof *net);
    net->alloc = opts->alloc;
    net->hp = model->hp;
    net->precision = opts->precision;
    net->rope_factors = model->rope_factors;
    net->embed = facet_model_tensor(model, FACET_ROLE_TOKEN_EMBD, 0);
    const facet_status status = net_build(net, model, opts, err);
    if (status != FACET_OK) {
        facet_net_free(net);
        return status;
    }
    *out = net;
    return FACET_OK;
}

void facet_net_free(facet_net *net)
{
    if (!net) return;
    for (uint32_t i = 0; i < net->n_params; i++) {
        facet_mem_free_aligned(net->alloc, net->params[i].value);
        facet_mem_free_aligned(net->alloc, net->params[i].rounded);
        facet_mem_free_aligned(net->alloc, net->params[i].grad);
    }
    facet_mem_free(net->alloc, net->params);
    facet_mem_free(net->alloc, net->index);
    facet_mem_free(net->alloc, net);
}

void facet_net_zero(facet_net *net)
{
    for (uint32_t i = 0; i < net->n_params; i++) {
        const facet_param *param = &net->params[i];
        if (param->grad) memset(param->grad, 0, facet_param_size(param) * sizeof *param->grad);
    }
}
