// SPDX-License-Identifier: Apache-2.0
// The float32 model for comparisons from outside: test_stream_dump MODEL IDS OUT reads one sample a
// line (token ids) from IDS, writes the logits of all tokens, float32, to OUT ("-": none) and
// prints the sum of nats of every sample. Without arguments it is a test that has nothing to do.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calib/stream.h"
#include "tests/support/sample_ids.h"

static facet_status dump(facet_stream *stream, const facet_samples *samples, uint32_t n_layers,
                         uint32_t n_vocab, FILE *out, facet_err *err)
{
    float *logits = calloc(n_vocab, sizeof *logits);
    double *nats = calloc(samples->n, sizeof *nats), all;
    uint64_t scored;
    facet_status status = FACET_OK;
    if (!logits || !nats) {
        status = facet_fail_memory(err, n_vocab * sizeof *logits);
        goto done;
    }
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        FACET_TRY_GOTO(facet_stream_attn(stream, err), done);
        FACET_TRY_GOTO(facet_stream_ffn(stream, NULL, NULL, err), done);
    }
    FACET_TRY_GOTO(facet_stream_nll(stream, &all, &scored, nats, err), done);
    for (uint32_t i = 0; i < samples->n; i++)
        printf("%.9g\n", nats[i]);
    for (uint64_t t = 0; out && t < samples->n_tokens; t++) {
        FACET_TRY_GOTO(facet_stream_logits(stream, t, logits, err), done);
        if (fwrite(logits, sizeof *logits, n_vocab, out) != n_vocab) {
            status = facet_fail(err, FACET_IO, "dump: cannot write the logits; check the space");
            goto done;
        }
    }
done:
    free(logits);
    free(nats);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        printf(
            "skipped: usage is test_stream_dump MODEL IDS OUT; tests/oracle/forward.sh runs it\n");
        return 77;
    }
    facet_err err = {0};
    facet_model *model = NULL;
    facet_stream *stream = NULL;
    facet_samples samples = {0};
    const bool wants_logits = strcmp(argv[3], "-") != 0;
    FILE *out = wants_logits ? fopen(argv[3], "wb") : NULL;
    facet_status status = facet_model_open(argv[1], NULL, &model, &err);
    if (status == FACET_OK) status = facet_sample_ids_load(argv[2], &samples, &err);
    if (status == FACET_OK) status = facet_stream_new(model, &samples, NULL, &stream, &err);
    if (status == FACET_OK && (out || !wants_logits))
        status = dump(stream, &samples, model->hp.n_layers, model->hp.n_vocab, out, &err);
    if (status != FACET_OK) fprintf(stderr, "test_stream_dump: %s\n", err.message);
    if (wants_logits && (!out || fclose(out) != 0)) status = FACET_IO;
    facet_stream_free(stream);
    facet_model_close(model);
    facet_sample_ids_fini(&samples);
    return facet_status_exit(status);
}
