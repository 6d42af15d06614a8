// SPDX-License-Identifier: Apache-2.0
// facet.h: the public C API of the thin runtime. Nothing else of facet is public.
//
// In: the path of a bundle (a directory NAME.facet made by `facet build`). Out: logits and tokens.
// The library prints nothing, exits never, reads no environment variable and keeps no globals.
// Every fallible function returns a facet_status; its last parameter `err` may be NULL and
// otherwise receives the code and one sentence. On failure out-parameters are untouched.
//
//     facet_bundle *bundle;
//     facet_session *session;
//     facet_err err;
//     if (facet_open("demo.facet", NULL, &bundle, &err)) return fail(err.message);
//     if (facet_session_new(bundle, "code", NULL, &session, &err)) return fail(err.message);
//     ...
//     facet_session_free(session);
//     facet_close(bundle);
#ifndef FACET_H
#define FACET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FACET_API __attribute__((visibility("default")))
#else
#define FACET_API
#endif

#define FACET_VERSION     "0.1.0"
#define FACET_API_VERSION 2u

// ---- status and errors ------------------------------------------------------------------------

// X(NAME, exit status of the command, slug in JSON, text)
#define FACET_STATUS_MAP(X)                                                                        \
    X(OK, 0, "ok", "done")                                                                         \
    X(FAILED, 1, "failed", "the work failed")                                                      \
    X(INTERRUPTED, 1, "interrupted", "interrupted")                                                \
    X(USAGE, 2, "usage", "wrong usage")                                                            \
    X(NOT_FOUND, 3, "not-found", "no such file or name")                                           \
    X(BAD_FILE, 3, "bad-file", "the file is damaged or inconsistent")                              \
    X(BAD_TENSOR, 3, "bad-tensor", "a tensor is damaged or has the wrong shape")                   \
    X(BAD_INPUT, 3, "bad-input", "the input is unusable")                                          \
    X(UNSUPPORTED, 3, "unsupported", "the input needs something facet does not have")              \
    X(MISMATCH, 3, "mismatch", "two inputs do not belong together")                                \
    X(REFUSED, 4, "refused", "refused by the chosen mode")                                         \
    X(CHECK, 4, "check-failed", "a check failed")                                                  \
    X(QUALITY, 4, "quality", "worse than the quality that was asked for")                          \
    X(NO_MEMORY, 5, "no-memory", "out of memory")                                                  \
    X(NO_SPACE, 5, "no-space", "no space left")                                                    \
    X(PERMISSION, 5, "permission", "permission denied or unsafe ownership")                        \
    X(IO, 5, "io", "input or output failed")                                                       \
    X(NO_COMPILER, 5, "no-compiler", "no usable compiler")                                         \
    X(NO_DEVICE, 5, "no-device", "the device is missing or lacks a feature")

typedef enum facet_status {
#define X(name, exit_status, slug, text) FACET_##name,
    FACET_STATUS_MAP(X)
#undef X
} facet_status;

typedef struct facet_err {
    facet_status code;
    int64_t offset;    // byte offset or record number in `file`, -1 when there is none
    char file[256];    // the file at fault, "" when there is none
    char message[512]; // one sentence: WHAT: WHY; REMEDY
} facet_err;

// The slug of a status ("bad-tensor"), its sentence, and the exit status of the command for it.
FACET_API const char *facet_status_slug(facet_status status);
FACET_API const char *facet_status_text(facet_status status);
FACET_API int facet_status_exit(facet_status status);

// ---- what the caller supplies -----------------------------------------------------------------

// Memory. resize(ctx, NULL, n) allocates, resize(ctx, p, n) moves, resize(ctx, p, 0) frees and
// returns NULL. Results are aligned for any object. Must be thread-safe.
typedef struct facet_alloc {
    void *ctx;
    void *(*resize)(void *ctx, void *ptr, size_t bytes);
} facet_alloc;

typedef enum facet_level { FACET_LOG_WARN, FACET_LOG_INFO, FACET_LOG_DEBUG } facet_level;

typedef struct facet_log {
    void *ctx;
    void (*write)(void *ctx, facet_level level, const char *text); // one line, no newline
} facet_log;

typedef enum facet_mode {
    FACET_MODE_AUTO,    // kernels of this machine if the bundle has them, else generic ones
    FACET_MODE_STRICT,  // refuse (FACET_REFUSED) when a kernel is missing
    FACET_MODE_GENERIC, // portable kernels only
} facet_mode;

typedef struct facet_open_opts {
    const facet_alloc *alloc; // NULL: malloc
    const facet_log *log;     // NULL: silent
    facet_mode mode;
    const char *isa; // NULL: what this CPU has; else a baked target's name, as if it were the best
    unsigned n_threads; // 0: the cores this process may use
} facet_open_opts;

// ---- bundle -----------------------------------------------------------------------------------

typedef struct facet_bundle facet_bundle;
typedef struct facet_session facet_session;

FACET_API const char *facet_version(void);

// Opens a bundle read-only: manifest, sizes and kernel checksums are checked, weights are mapped.
// `opts` may be NULL. Free with facet_close after every session of it is freed.
FACET_API facet_status facet_open(const char *path, const facet_open_opts *opts,
                                  facet_bundle **bundle, facet_err *err);
FACET_API void facet_close(facet_bundle *bundle);

// Families, `dense` included, in manifest order. The name is borrowed until facet_close.
FACET_API uint32_t facet_family_count(const facet_bundle *bundle);
FACET_API const char *facet_family_name(const facet_bundle *bundle, uint32_t family);
FACET_API uint32_t facet_vocab(const facet_bundle *bundle);
FACET_API uint32_t facet_context(const facet_bundle *bundle);

// ---- text <-> tokens --------------------------------------------------------------------------

// Writes at most `capacity` ids and always sets *count to the number needed.
// special: add BOS where the model asks for it and recognise special tokens in the text.
FACET_API facet_status facet_tokenize(const facet_bundle *bundle, const char *text, size_t bytes,
                                      bool special, uint32_t *ids, size_t capacity, size_t *count,
                                      facet_err *err);
// Wraps one user message in the model's chat template and tokenises it.
FACET_API facet_status facet_tokenize_chat(const facet_bundle *bundle, const char *user,
                                           uint32_t *ids, size_t capacity, size_t *count,
                                           facet_err *err);
// Writes at most `capacity` bytes (no terminator) and always sets *bytes to the number needed.
FACET_API facet_status facet_detokenize(const facet_bundle *bundle, const uint32_t *ids,
                                        size_t count, char *text, size_t capacity, size_t *bytes,
                                        facet_err *err);
FACET_API bool facet_token_is_end(const facet_bundle *bundle, uint32_t id);

// ---- session ----------------------------------------------------------------------------------

#define FACET_SEQUENCES_MAX 64u // of a session

typedef struct facet_session_opts {
    uint32_t n_ctx;       // KV cache length in tokens; 0: the smaller of the model's and 4096
    unsigned n_threads;   // 0: as the bundle
    const char *prefill;  // NULL or "family": prompt by the session's family; "dense": by dense
    uint32_t n_sequences; // texts side by side, each with a KV cache of n_ctx tokens; 0: 1
} facet_session_opts;

typedef struct facet_sampler {
    float temperature; // 0: greedy, the highest logit, lowest id on a tie
    uint32_t top_k;    // 0: off
    float top_p;       // 0 or 1: off
    uint64_t state;    // the seed; advanced by every draw
} facet_sampler;

// A session owns its KV caches and scratch; it allocates here and nowhere later. One thread at a
// time may use a session; distinct sessions of a bundle are independent.
// It holds n_sequences texts, numbered from 0, of one family. One of them is current, 0 at first:
// prefill, step, next, rewind and length mean that one.
FACET_API facet_status facet_session_new(facet_bundle *bundle, const char *family,
                                         const facet_session_opts *opts, facet_session **session,
                                         facet_err *err);
FACET_API void facet_session_free(facet_session *session);

// Appends tokens (n > 0) to the context; `logits` (vocab) of the last one, or NULL.
FACET_API facet_status facet_session_prefill(facet_session *session, const uint32_t *tokens,
                                             size_t n, float *logits, facet_err *err);
// Appends one token and returns the whole head's logits (vocab).
FACET_API facet_status facet_session_step(facet_session *session, uint32_t token, float *logits,
                                          facet_err *err);
// Appends one token and draws the next one. FACET_BAD_TENSOR if the logits are not finite.
FACET_API facet_status facet_session_next(facet_session *session, uint32_t token,
                                          facet_sampler *sampler, uint32_t *id, facet_err *err);
// Draws from logits (vocab) without a session; logits are left as they are.
FACET_API facet_status facet_session_sample(facet_session *session, const float *logits,
                                            facet_sampler *sampler, uint32_t *id, facet_err *err);
// Switches to another family: a function table and a pointer. The KV cache stays: tokens of the
// context are as the family left them that read them. An unknown name changes nothing.
FACET_API facet_status facet_session_family(facet_session *session, const char *family,
                                            facet_err *err);
// Makes another sequence the current one.
FACET_API facet_status facet_session_select(facet_session *session, uint32_t sequence,
                                            facet_err *err);
// Forgets the context from position n on (n <= the current length).
FACET_API facet_status facet_session_rewind(facet_session *session, uint32_t n, facet_err *err);
FACET_API uint32_t facet_session_length(const facet_session *session);

// ---- several sequences in one step --------------------------------------------------------------
//
// A step of n sequences reads each weight once for all of them. Every sequence gets exactly the
// logits that it would get alone, bit for bit, whoever shares the step and in whatever order. Which
// sequence is current plays no part and does not change. Nothing is changed when a sequence does
// not exist, is named twice or has a full context, or when a token is unknown (FACET_BAD_INPUT).

// Appends tokens[i] to sequences[i] for all of n (> 0) distinct sequences; the whole head's logits
// (n, vocab) in the order given, or NULL.
FACET_API facet_status facet_session_step_batch(facet_session *session, uint32_t n,
                                                const uint32_t *sequences, const uint32_t *tokens,
                                                float *logits, facet_err *err);
// As facet_session_step_batch, and draws the next token ids[i] of each by samplers[i]; samplers
// NULL: greedily. `ids` may be `tokens`.
FACET_API facet_status facet_session_next_batch(facet_session *session, uint32_t n,
                                                const uint32_t *sequences, const uint32_t *tokens,
                                                facet_sampler *samplers, uint32_t *ids,
                                                facet_err *err);

#ifdef __cplusplus
}
#endif
#endif
