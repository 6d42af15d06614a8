// SPDX-License-Identifier: Apache-2.0
// Generates text with libfacet:
//     cc example.c $(pkg-config --cflags --libs facet) -o example && ./example demo.facet code
//     "Hello"
#include <facet.h>
#include <stdio.h>

static int fail(const facet_err *err)
{
    fprintf(stderr, "example: %s\n", err->message);
    return facet_status_exit(err->code);
}

int main(int argc, char **argv)
{
    facet_bundle *bundle;
    facet_session *session;
    facet_err err;
    facet_sampler greedy = {0};
    uint32_t ids[1024], id;
    size_t n, bytes;
    char text[256];
    if (argc != 4) return fprintf(stderr, "usage: example BUNDLE FAMILY PROMPT\n"), 2;
    if (facet_open(argv[1], NULL, &bundle, &err)) return fail(&err);
    if (facet_session_new(bundle, argv[2], NULL, &session, &err)) return fail(&err);
    if (facet_tokenize_chat(bundle, argv[3], ids, 1024, &n, &err)) return fail(&err);
    if (n == 0 || n > 1024) return fprintf(stderr, "example: prompt too short or long\n"), 3;
    if (n > 1 && facet_session_prefill(session, ids, n - 1, NULL, &err)) return fail(&err);
    id = ids[n - 1];
    for (int i = 0; i < 64; i++) {
        if (facet_session_next(session, id, &greedy, &id, &err)) return fail(&err);
        if (facet_token_is_end(bundle, id)) break;
        if (facet_detokenize(bundle, &id, 1, text, sizeof text, &bytes, &err)) return fail(&err);
        fwrite(text, 1, bytes < sizeof text ? bytes : sizeof text, stdout);
    }
    printf("\n");
    facet_session_free(session);
    facet_close(bundle);
    return 0;
}
