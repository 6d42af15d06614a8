// SPDX-License-Identifier: Apache-2.0
// Scores of tasks by commands of the user: --score [FAMILY:]NAME=COMMAND and --score-least NAME=R.
#ifndef FACET_TOOLS_SCORE_H
#define FACET_TOOLS_SCORE_H

#include "compiler/build.h"
#include "tools/tool.h"

typedef struct facet_scores {
    facet_build_score *items;
    char **texts; // (n) what the items' names point into
    uint32_t n;
} facet_scores;

// Both options as they were given. FACET_USAGE: wrong form, a name given twice or a limit of none.
// Free with facet_scores_fini; commands stay borrowed.
facet_status facet_scores_parse(const facet_strings *scores, const facet_strings *least,
                                facet_scores *out, facet_err *err);
void facet_scores_fini(facet_scores *scores);

// Runs the command by /bin/sh with FACET_BUNDLE and FACET_FAMILY in its environment. The score is
// the number in the last line of its standard output that is not blank; its standard error is ours,
// and nobody's with -q. FACET_FAILED: it failed or told no number. A signal to us ends it.
facet_status facet_score_run(const facet_tool *tool, const char *bundle, const char *family,
                             const facet_build_score *score, double *value, facet_err *err);

#endif
