// SPDX-License-Identifier: Apache-2.0
#include "tools/route.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "predict/predict.h"
#include "tools/output.h"

static facet_status no_scores(const facet_bundle *bundle, uint32_t family, facet_err *err)
{
    return facet_fail(err, FACET_UNSUPPORTED,
                      "--family auto: family %s of the bundle has no scores to compare a prompt "
                      "with; build the bundle again with this facet, or name a family",
                      facet_family_name(bundle, family));
}

facet_status facet_route_init(facet_route *route, const facet_tool *tool,
                              const facet_bundle *bundle, facet_err *err)
{
    const uint32_t n_layers = facet_bundle_manifest(bundle)->model.n_layers;
    const uint32_t n = facet_family_count(bundle) - 1;
    for (uint32_t family = 1; family <= n; family++)
        for (uint32_t layer = 0; layer < n_layers; layer++)
            if (facet_bundle_scores(bundle, family, layer) == NULL)
                return no_scores(bundle, family, err);
    double *similarity = facet_mem_new(NULL, n + (size_t)1, sizeof *similarity);
    if (similarity == NULL) return facet_fail_memory(err, (n + (size_t)1) * sizeof *similarity);
    *route = (facet_route){.tool = tool, .bundle = bundle, .n = n, .similarity = similarity};
    return FACET_OK;
}

void facet_route_fini(facet_route *route)
{
    facet_mem_free(NULL, route->similarity);
    *route = (facet_route){0};
}

facet_status facet_route_begin(facet_route *route, facet_session *session, facet_err *err)
{
    route->chosen = false;
    FACET_TRY(facet_session_family(session, facet_family_name(route->bundle, 0), err));
    return facet_session_stats_begin(session, err);
}

// The families' scores one after the other, as facet_predict_nearest wants them.
static void gather(const facet_route *route, uint32_t n_layers, uint32_t d_ff, float *out)
{
    for (uint32_t family = 1; family <= route->n; family++) {
        for (uint32_t layer = 0; layer < n_layers; layer++, out += d_ff)
            memcpy(out, facet_bundle_scores(route->bundle, family, layer), d_ff * sizeof *out);
    }
}

// Weights and scores are not summed when a bundle is opened; damage must not choose.
static facet_status check_finite(const float *scores, size_t n, const char *whose, facet_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(scores[i])) continue;
        return facet_fail(err, FACET_BAD_FILE,
                          "--family auto: statistics of %s are no numbers, the bundle is damaged; "
                          "run facet verify and build it again",
                          whose);
    }
    return FACET_OK;
}

static facet_status nearest(facet_route *route, const facet_session *session, float *scores,
                            float *families, facet_err *err)
{
    const facet_manifest_model *m = &facet_bundle_manifest(route->bundle)->model;
    const size_t n = (size_t)m->n_layers * m->d_ff;
    FACET_TRY(facet_session_stats(session, scores, err));
    FACET_TRY(check_finite(scores, n, "the prompt", err));
    gather(route, m->n_layers, m->d_ff, families);
    for (uint32_t i = 0; i < route->n; i++)
        FACET_TRY(check_finite(families + i * n, n, facet_family_name(route->bundle, 1 + i), err));
    const uint32_t best =
        facet_predict_nearest(scores, families, route->n, m->n_layers, m->d_ff, route->similarity);
    route->family = 1 + best;
    route->chosen = true;
    return FACET_OK;
}

facet_status facet_route_choose(facet_route *route, facet_session *session, facet_err *err)
{
    const facet_manifest_model *m = &facet_bundle_manifest(route->bundle)->model;
    const size_t n = (size_t)m->n_layers * m->d_ff;
    float *scores = facet_mem_new(NULL, n, sizeof *scores);
    float *families = facet_mem_new(NULL, n, route->n * sizeof *families);
    facet_status status = FACET_OK;
    if (scores == NULL || families == NULL)
        status = facet_fail_memory(err, n * route->n * sizeof *families);
    else
        status = nearest(route, session, scores, families, err);
    facet_mem_free(NULL, scores);
    facet_mem_free(NULL, families);
    FACET_TRY(status);
    facet_session_stats_end(session);
    facet_output_note(route->tool, "family %s is nearest, at distance %.4f",
                      facet_route_name(route), facet_route_distance(route));
    return facet_session_family(session, facet_route_name(route), err);
}

const char *facet_route_name(const facet_route *route)
{
    return facet_family_name(route->bundle, route->chosen ? route->family : 0);
}

double facet_route_distance(const facet_route *route)
{
    return route->chosen ? 1 - route->similarity[route->family - 1] : (double)NAN;
}
