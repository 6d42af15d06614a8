// SPDX-License-Identifier: Apache-2.0
// The public text calls: model/'s tokenizer behind buffers of the caller's.
#include <string.h>

#include "runtime/bundle.h"

// Copies what fits, tells how many there are, frees.
static void hand_out(const facet_bundle *bundle, facet_tokens *tokens, uint32_t *ids,
                     size_t capacity, size_t *count)
{
    const size_t n = tokens->count < capacity ? tokens->count : capacity;
    if (n > 0) memcpy(ids, tokens->ids, n * sizeof *ids);
    *count = tokens->count;
    facet_mem_free(bundle->alloc, tokens->ids);
}

facet_status facet_tokenize(const facet_bundle *bundle, const char *text, size_t bytes,
                            bool special, uint32_t *ids, size_t capacity, size_t *count,
                            facet_err *err)
{
    facet_tokens tokens = {0};
    FACET_TRY(facet_tokenizer_encode(bundle->tokenizer, text, bytes, special, special,
                                     bundle->alloc, &tokens, err));
    hand_out(bundle, &tokens, ids, capacity, count);
    return FACET_OK;
}

facet_status facet_tokenize_chat(const facet_bundle *bundle, const char *user, uint32_t *ids,
                                 size_t capacity, size_t *count, facet_err *err)
{
    const facet_message message = {"user", user};
    facet_tokens tokens = {0};
    FACET_TRY(facet_tokenizer_chat_encode(bundle->tokenizer, &message, 1, true, bundle->alloc,
                                          &tokens, err));
    hand_out(bundle, &tokens, ids, capacity, count);
    return FACET_OK;
}

facet_status facet_detokenize(const facet_bundle *bundle, const uint32_t *ids, size_t count,
                              char *text, size_t capacity, size_t *bytes, facet_err *err)
{
    facet_text out;
    facet_text_init(&out, bundle->alloc);
    facet_status status = facet_tokenizer_decode(bundle->tokenizer, ids, count, false, &out, err);
    if (status == FACET_OK) status = facet_text_status(&out, err);
    if (status == FACET_OK) {
        const size_t n = out.length < capacity ? out.length : capacity;
        if (n > 0) memcpy(text, out.data, n);
        *bytes = out.length;
    }
    facet_text_fini(&out);
    return status;
}

bool facet_token_is_end(const facet_bundle *bundle, uint32_t id)
{
    return facet_tokenizer_is_end(bundle->tokenizer, id);
}
