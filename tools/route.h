// SPDX-License-Identifier: Apache-2.0
// run --family auto: dense reads the prompt and counts its channels, the nearest family answers.
#ifndef FACET_TOOLS_ROUTE_H
#define FACET_TOOLS_ROUTE_H

#include "runtime/eval.h"
#include "tools/tool.h"

typedef struct facet_route {
    const facet_tool *tool;
    const facet_bundle *bundle;
    bool again;         // the chosen family reads the prompt once more
    bool chosen;        // the rest is known
    uint32_t family;    // index in the bundle
    uint32_t n;         // families without dense
    double *similarity; // (n) of families 1 .. n: cosine of the layers' statistics, averaged
} facet_route;

// Refuses a bundle whose families have no scores (FACET_UNSUPPORTED). A bundle without families
// has n 0 and is not to be routed. Free with facet_route_fini, which is safe on a zeroed one.
facet_status facet_route_init(facet_route *route, const facet_tool *tool,
                              const facet_bundle *bundle, facet_err *err);
void facet_route_fini(facet_route *route);

// Before the prompt: the session becomes dense and counts.
facet_status facet_route_begin(facet_route *route, facet_session *session, facet_err *err);
// Behind it: the session becomes the nearest family's and counts no more. Says so to people.
facet_status facet_route_choose(facet_route *route, facet_session *session, facet_err *err);

// Name of the chosen family ("dense" before a choice), and 1 - its similarity (NaN before).
const char *facet_route_name(const facet_route *route);
double facet_route_distance(const facet_route *route);

#endif
