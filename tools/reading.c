// SPDX-License-Identifier: Apache-2.0
#include "tools/reading.h"

#include <string.h>

typedef struct shifted {
    facet_logits_fn *fn;
    void *ctx;
    size_t by;
} shifted;

static facet_status shift(void *ctx, size_t first_row, uint32_t n_rows, const float *logits,
                          facet_err *err)
{
    const shifted *s = ctx;
    return s->fn(s->ctx, s->by + first_row, n_rows, logits, err);
}

facet_status facet_reading_rows(facet_session *session, const facet_reading *reading,
                                facet_logits_fn *fn, void *ctx, facet_err *err)
{
    const size_t lead = reading->first - 1, n_rows = reading->n - reading->first;
    const size_t own = strcmp(reading->reader, reading->family) == 0 ? n_rows : 1;
    shifted rest = {fn, ctx, own};
    FACET_TRY(facet_session_rewind(session, 0, err));
    FACET_TRY(facet_session_family(session, reading->reader, err));
    if (lead > 0) FACET_TRY(facet_session_prefill(session, reading->ids, lead, NULL, err));
    FACET_TRY(facet_session_prefill_all(session, reading->ids + lead, own, fn, ctx, err));
    FACET_TRY(facet_session_family(session, reading->family, err));
    if (own == n_rows) return FACET_OK;
    return facet_session_prefill_all(session, reading->ids + lead + own, n_rows - own, shift, &rest,
                                     err);
}
