// SPDX-License-Identifier: Apache-2.0
// How far does a family answer as dense does? For eval --agree and the compiler's proof.
//
//     prompt[0..p) answer[0..k)      the last token of an answer is the first that ends a turn
//     row p-1+i                      a family's logits behind prompt + answer[0..i)
//     position i agrees              row p-1+i is highest at the same token for dense and family
//                                    (with --prefill dense row p-1 is dense's for both)
//
// An answer is dense's own when dense's rows are highest at the answer's tokens. The family's own
// greedy answer `own` (same limit of tokens) then equals `answer` token for token if and only if
// every position agrees, so nothing is generated to find out. By induction on i, own and answer are
// the same up to i as long as positions 0..i-1 agree: nothing precedes own[0] but the prompt, and
// if own[0..i) = answer[0..i), then the family draws own[i] behind exactly the prefix that row
// p-1+i has seen, so own[i] = answer[i] if and only if position i agrees. If all do, both end at k,
// because an answer's end depends on its tokens and the limit only; at the first that does not, the
// answers differ. The same holds for dense itself, so its rows tell whose the answer is. This rests
// on a row's logits being the same bits from a prefill as from single steps, which tests/oracle
// holds the runtime to.
#ifndef FACET_TOOLS_AGREE_H
#define FACET_TOOLS_AGREE_H

#include "compiler/build.h"
#include "tools/resolve.h"

// What `family` draws greedily behind ids[0..i) for each i from `first` (1 or more) to n - 1: drawn
// (n - first). `reader`, the family itself or dense, reads the prompt ids[0..first), and so draws
// the first. The session forgets its context first.
facet_status facet_agree_draw(facet_session *session, const char *reader, const char *family,
                              uint32_t n_vocab, const uint32_t *ids, size_t first, size_t n,
                              uint32_t *drawn, facet_err *err);
// Adds one answer of n tokens, under which dense and the family have drawn.
void facet_agree_count(const uint32_t *answer, const uint32_t *dense, const uint32_t *family,
                       size_t n, facet_build_agreement *sum);
// Agreement of a family of an open bundle over the answers of `samples`, read by `reader`.
facet_status facet_agree_samples(const facet_tool *tool, facet_bundle *bundle, const char *reader,
                                 const char *family, const facet_samples *samples,
                                 facet_build_agreement *out, facet_err *err);

#endif
