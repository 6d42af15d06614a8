// SPDX-License-Identifier: Apache-2.0
#include "tools/conversation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tools/output.h"
#include "tools/signals.h"
#include "tools/tasks.h"

typedef struct talk {
    facet_bundle *bundle;
    facet_session *session;
    const facet_generate_opts *opts;
    bool raw;
    facet_message *messages; // their contents are owned
    size_t n;
    facet_tokens held; // what the context holds
} talk;

static facet_status print_piece(void *ctx, const char *text, size_t bytes, facet_err *err)
{
    (void)ctx;
    FACET_TRY(facet_output_write(text, bytes, err));
    return facet_output_flush(err);
}

static facet_status say(talk *t, const char *role, const char *content, facet_err *err)
{
    facet_message *messages = facet_mem_resize(NULL, t->messages, t->n + 1, sizeof *messages);
    if (messages == NULL) return facet_fail_memory(err, (t->n + 1) * sizeof *messages);
    t->messages = messages;
    char *copy = facet_mem_strdup(NULL, content);
    if (copy == NULL) return facet_fail_memory(err, strlen(content) + 1);
    messages[t->n++] = (facet_message){role, copy};
    return FACET_OK;
}

static void forget(talk *t)
{
    for (size_t i = 0; i < t->n; i++) {
        union {
            const char *borrowed;
            char *owned;
        } content = {t->messages[i].content};
        facet_mem_free(NULL, content.owned);
    }
    t->n = 0;
}

// Notes the tokens of the turn as the context's: prompt, then answer.
static facet_status hold(talk *t, const facet_tokens *prompt, const facet_generated *made,
                         facet_err *err)
{
    const size_t n = prompt->count + made->n;
    uint32_t *ids = facet_mem_resize(NULL, t->held.ids, n, sizeof *ids);
    if (ids == NULL) return facet_fail_memory(err, n * sizeof *ids);
    memcpy(ids, prompt->ids, prompt->count * sizeof *ids);
    memcpy(ids + prompt->count, made->ids, made->n * sizeof *ids);
    t->held.ids = ids;
    // The last token drawn may not have been run.
    const uint32_t length = facet_session_length(t->session);
    t->held.count = n < length ? n : length;
    return FACET_OK;
}

static facet_status answer(talk *t, const facet_tokens *prompt, facet_err *err)
{
    facet_route *route = t->opts->route;
    if (route != NULL && t->raw) route->chosen = false;
    // A choice looks at the whole prompt, so nothing of it may be read already.
    if (route != NULL && !route->chosen) t->held.count = 0;
    size_t common = 0;
    while (common < t->held.count && common + 1 < prompt->count &&
           t->held.ids[common] == prompt->ids[common])
        common++;
    facet_generated made = {0};
    FACET_TRY(facet_session_rewind(t->session, (uint32_t)common, err));
    t->held.count = common;
    FACET_TRY(facet_generate(t->bundle, t->session, prompt->ids + common, prompt->count - common,
                             t->opts, &made, err));
    facet_status status = hold(t, prompt, &made, err);
    if (status == FACET_OK) status = say(t, "assistant", facet_text_str(&made.text), err);
    if (status == FACET_OK) status = facet_output_write("\n", 1, err);
    if (status == FACET_OK) status = facet_output_flush(err);
    facet_generated_fini(&made);
    return status;
}

static facet_status turn(talk *t, const char *line, facet_err *err)
{
    facet_tokens prompt = {0};
    if (t->raw) forget(t);
    FACET_TRY(say(t, "user", line, err));
    FACET_TRY(facet_prompt_encode(facet_bundle_tokenizer(t->bundle), t->messages, t->n, t->raw,
                                  &prompt, err));
    facet_status status = prompt.count > 0 ? answer(t, &prompt, err) : FACET_OK;
    facet_mem_free(NULL, prompt.ids);
    return status;
}

static facet_status talk_on(const facet_tool *tool, talk *t, facet_err *err)
{
    const bool ask = isatty(STDIN_FILENO) == 1 && !tool->quiet;
    char *line = NULL;
    size_t capacity = 0;
    facet_status status = FACET_OK;
    while (status == FACET_OK) {
        if (ask) fputs("> ", stderr);
        errno = 0;
        ssize_t n = getline(&line, &capacity, stdin);
        status = facet_signals_check(err);
        if (status != FACET_OK || n < 0) break;
        if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
        if (line[0] != '\0') status = turn(t, line, err);
    }
    if (status == FACET_OK && ferror(stdin))
        status = facet_fail_errno(err, errno != 0 ? errno : EIO, "standard input", "read");
    free(line);
    return status;
}

facet_status facet_chat(const facet_tool *tool, facet_bundle *bundle, facet_session *session,
                        const facet_generate_opts *opts, bool raw, facet_err *err)
{
    facet_generate_opts with_piece = *opts;
    with_piece.piece = print_piece;
    talk t = {.bundle = bundle, .session = session, .opts = &with_piece, .raw = raw};
    facet_status status = talk_on(tool, &t, err);
    forget(&t);
    facet_mem_free(NULL, t.messages);
    facet_mem_free(NULL, t.held.ids);
    return status;
}
