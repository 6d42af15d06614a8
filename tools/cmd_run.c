// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "tools/conversation.h"
#include "tools/family_choice.h"
#include "tools/generate.h"
#include "tools/output.h"
#include "tools/resolve.h"
#include "tools/tasks.h"

typedef struct run_opts {
    const char *family, *prompt, *file, *prefill;
    bool interactive, raw;
    uint64_t n, ctx, top_k, seed;
    double temperature, top_p;
} run_opts;

enum { DEFAULT_N = 128, N_LIMIT = 1 << 20, DEFAULT_CTX = 4096, PROMPT_MAX = 64 << 20 };

static const run_opts defaults = {.n = DEFAULT_N};
#define FIELD(field) offsetof(run_opts, field)
static const facet_option options[] = {
    FACET_OPT_TEXT("--family", NULL, FIELD(family), "NAME|auto|dense",
                   "Whose channels to compute (auto: the family nearest to the prompt)."),
    FACET_OPT_TEXT("-p", "--prompt", FIELD(prompt), "TEXT", "The prompt."),
    FACET_OPT_TEXT("-f", "--file", FIELD(file), "FILE", "The prompt is the text of a file."),
    FACET_OPT_FLAG("-i", "--interactive", FIELD(interactive),
                   "Read prompts from standard input, a line each, until its end."),
    FACET_OPT_COUNT("-n", "--tokens", FIELD(n), "N", "Tokens to generate at most (128).", 0,
                    N_LIMIT),
    FACET_OPT_COUNT("--ctx", NULL, FIELD(ctx), "N",
                    "Length of the context (the smaller of the model's and 4096).", 1, N_LIMIT),
    FACET_OPT_REAL("--temp", FIELD(temperature), "T", "Temperature; 0 is greedy (0).", 0, 100,
                   false),
    FACET_OPT_COUNT("--top-k", NULL, FIELD(top_k), "K", "Draw of the K likeliest (off).", 0,
                    1 << 30),
    FACET_OPT_REAL("--top-p", FIELD(top_p), "P",
                   "Draw of the likeliest that hold this share (off).", 0, 1, false),
    FACET_OPT_COUNT("--seed", NULL, FIELD(seed), "S", "Seed of the draws (0).", 0,
                    9007199254740992.0),
    FACET_OPT_FLAG("--raw", NULL, FIELD(raw), "Do not apply the chat template."),
    FACET_OPT_CHOICE("--prefill", FIELD(prefill), "family|dense",
                     "Who reads the prompt (family; with auto: dense)."),
    FACET_OPT_END,
};

typedef struct run_job {
    const facet_tool *tool;
    const run_opts *opts;
    facet_bundle *bundle;
    facet_session *session;
    const char *family; // what the session starts with
    bool route_asked;   // by name, not by default
    facet_route route;
    uint32_t n_ctx;
    uint32_t n_prompt;
} run_job;

static facet_status check(const facet_tool *tool, const run_opts *opts, facet_err *err)
{
    int n = (opts->prompt != NULL) + (opts->file != NULL) + (opts->interactive ? 1 : 0);
    if (n != 1)
        return facet_fail(err, FACET_USAGE,
                          "run: needs one of -p, -f and -i; see facet run --help");
    if (opts->interactive && tool->json)
        return facet_fail(err, FACET_USAGE, "-i: has no single result for --json; use -p or -f");
    return FACET_OK;
}

// A session that is to be routed starts as dense. A bundle without families has no choice.
static facet_status choose_family(run_job *job, facet_err *err)
{
    const char *name = job->opts->family;
    if (name != NULL && strcmp(name, "auto") != 0)
        return facet_family_find(job->bundle, name, &job->family, err);
    job->route_asked = name != NULL;
    FACET_TRY(facet_route_init(&job->route, job->tool, job->bundle, err));
    job->route.again = job->opts->prefill != NULL && strcmp(job->opts->prefill, "family") == 0;
    return facet_family_find(job->bundle, "dense", &job->family, err);
}

static facet_status open_session(run_job *job, facet_err *err)
{
    const uint32_t model_ctx = facet_context(job->bundle);
    job->n_ctx = model_ctx < DEFAULT_CTX ? model_ctx : DEFAULT_CTX;
    if (job->opts->ctx > model_ctx)
        return facet_fail(err, FACET_USAGE, "--ctx %llu: the model's context ends at %u; lower it",
                          (unsigned long long)job->opts->ctx, model_ctx);
    if (job->opts->ctx > 0) job->n_ctx = (uint32_t)job->opts->ctx;
    const facet_session_opts opts = {.n_ctx = job->n_ctx, .prefill = job->opts->prefill};
    return facet_session_new(job->bundle, job->family, &opts, &job->session, err);
}

static facet_generate_opts generate_opts(run_job *job)
{
    return (facet_generate_opts){
        .route = job->route.n > 0 ? &job->route : NULL,
        .n_max = (uint32_t)job->opts->n,
        .n_ctx = job->n_ctx,
        .sampler =
            {
                .temperature = (float)job->opts->temperature,
                .top_k = (uint32_t)job->opts->top_k,
                .top_p = (float)job->opts->top_p,
                .state = job->opts->seed,
            },
    };
}

static facet_status print_piece(void *ctx, const char *text, size_t bytes, facet_err *err)
{
    (void)ctx;
    FACET_TRY(facet_output_write(text, bytes, err));
    return facet_output_flush(err);
}

static double rate(const facet_generated *made)
{
    return made->decode_seconds > 0 ? made->n_steps / made->decode_seconds : 0;
}

static void add_route(const run_job *job, cJSON *doc)
{
    const facet_route *route = &job->route;
    if (route->n == 0 && !job->route_asked) return;
    cJSON *object = facet_doc_object(doc, "route");
    cJSON *scores = facet_doc_object(object, "scores");
    for (uint32_t i = 0; i < route->n; i++)
        facet_doc_number(scores, facet_family_name(job->bundle, 1 + i), route->similarity[i]);
    facet_doc_text(object, "chosen", facet_route_name(route));
    facet_doc_number(object, "distance", facet_route_distance(route));
}

static facet_status print_result(const run_job *job, const facet_generated *made, facet_err *err)
{
    if (!job->tool->json) {
        facet_report_log(&job->tool->report, FACET_LOG_INFO,
                         "%u prompt tokens in %.3f s, %u tokens at %.1f a second, stopped by %s",
                         job->n_prompt, made->prefill_seconds, made->n, rate(made), made->stop);
        FACET_TRY(facet_output_write("\n", 1, err));
        return facet_output_flush(err);
    }
    cJSON *doc = facet_doc_new();
    facet_doc_text_n(doc, "text", facet_text_str(&made->text), made->text.length);
    cJSON *tokens = facet_doc_array(doc, "tokens");
    for (uint32_t i = 0; i < made->n; i++)
        facet_doc_push_number(tokens, made->ids[i]);
    facet_doc_text(doc, "family", job->route.chosen ? facet_route_name(&job->route) : job->family);
    facet_doc_number(doc, "prompt_tokens", job->n_prompt);
    facet_doc_number(doc, "generated_tokens", made->n);
    facet_doc_text(doc, "stop", made->stop);
    facet_doc_number(doc, "prefill_seconds", made->prefill_seconds);
    facet_doc_number(doc, "decode_seconds", made->decode_seconds);
    facet_doc_number(doc, "decode_tokens_per_second", rate(made));
    add_route(job, doc);
    return facet_output_document(job->tool, doc, err);
}

static facet_status answer(run_job *job, const char *prompt, facet_err *err)
{
    facet_tokens tokens = {0};
    const facet_message message = {"user", prompt};
    FACET_TRY(facet_prompt_encode(facet_bundle_tokenizer(job->bundle), &message, 1, job->opts->raw,
                                  &tokens, err));
    facet_generate_opts opts = generate_opts(job);
    if (!job->tool->json) opts.piece = print_piece;
    facet_generated made = {0};
    facet_status status = FACET_OK;
    if (tokens.count == 0)
        status = facet_fail(err, FACET_BAD_INPUT, "prompt: has no tokens; write something");
    job->n_prompt = (uint32_t)tokens.count;
    if (status == FACET_OK)
        status =
            facet_generate(job->bundle, job->session, tokens.ids, tokens.count, &opts, &made, err);
    if (status == FACET_OK) status = print_result(job, &made, err);
    facet_generated_fini(&made);
    facet_mem_free(NULL, tokens.ids);
    return status;
}

static facet_status answer_file(run_job *job, facet_err *err)
{
    char *text;
    size_t bytes;
    FACET_TRY(facet_file_read(job->opts->file, PROMPT_MAX, NULL, &text, &bytes, err));
    facet_status status;
    if (memchr(text, '\0', bytes) != NULL)
        status = facet_fail_at(err, FACET_BAD_INPUT, job->opts->file, -1,
                               "%s: holds a zero byte; name a text file", job->opts->file);
    else
        status = answer(job, text, err);
    facet_mem_free(NULL, text);
    return status;
}

static facet_status answer_opts(run_job *job, facet_err *err)
{
    if (job->opts->prompt != NULL) return answer(job, job->opts->prompt, err);
    if (job->opts->file != NULL) return answer_file(job, err);
    const facet_generate_opts opts = generate_opts(job);
    return facet_chat(job->tool, job->bundle, job->session, &opts, job->opts->raw, err);
}

static facet_status run(facet_tool *tool, const void *opts, const facet_strings *args,
                        facet_err *err)
{
    run_job job = {.tool = tool, .opts = opts};
    FACET_TRY(check(tool, opts, err));
    facet_resolved resolved;
    FACET_TRY(facet_resolve(tool, args->items[0], &resolved, err));
    job.bundle = resolved.bundle;
    facet_status status = choose_family(&job, err);
    if (status == FACET_OK) status = open_session(&job, err);
    if (status == FACET_OK) status = answer_opts(&job, err);
    facet_session_free(job.session);
    facet_route_fini(&job.route);
    facet_resolved_fini(&resolved);
    return status;
}

const facet_command facet_command_run = {
    .name = "run",
    .summary = "Answer a prompt with a bundle or a model.",
    .usage = "[options] BUNDLE|MODEL (-p TEXT | -f FILE | -i)",
    .example = "facet run demo.facet -p \"Write a loop in C.\"",
    .options = options,
    .defaults = &defaults,
    .bytes = sizeof defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
