// SPDX-License-Identifier: Apache-2.0
// Writing a conversation as ids. Markers of the template become special tokens; contents never do.
// Text between two special tokens is encoded in one piece, whether it comes from the template or
// from a message, because that is how the model has seen it.
#include <string.h>

#include "model/tokenizer_parts.h"
#include "model/utf8.h"

typedef struct writer {
    const facet_tokenizer *t;
    facet_ids ids;
    facet_text run; // text since the last special token
    bool after_special;
    facet_status status; // sticky
    facet_err *err;
} writer;

static void flush(writer *w)
{
    if (w->status == FACET_OK) w->status = facet_text_status(&w->run, w->err);
    if (w->status == FACET_OK && w->run.length > 0)
        w->status = facet_encode_append(w->t, w->run.data, w->run.length, false, &w->after_special,
                                        &w->ids, w->err);
    facet_text_clear(&w->run);
}

static void put_id(writer *w, int64_t id)
{
    flush(w);
    if (w->status == FACET_OK && id >= 0) w->status = facet_ids_put(&w->ids, (uint32_t)id, w->err);
    w->after_special = true;
}

// Text of the template: control tokens in it are meant.
static void put_marked(writer *w, const char *text)
{
    facet_fragment *fragments = NULL;
    size_t count = 0;
    if (w->status != FACET_OK || !text) return;
    w->status = facet_fragments_find(w->t, text, strlen(text), true, w->ids.alloc, &fragments,
                                     &count, w->err);
    for (size_t i = 0; i < count && w->status == FACET_OK; i++) {
        const facet_fragment *f = &fragments[i];
        // User tokens stay in the run: they may begin in a content and end in the template.
        if (f->id == FACET_NO_TOKEN || w->t->tokens[f->id].type == FACET_TOKEN_USER)
            facet_text_put(&w->run, text + f->at, f->bytes);
        else
            put_id(w, f->id);
    }
    facet_mem_free(w->ids.alloc, fragments);
}

static void put_plain(writer *w, const char *text)
{
    facet_text_puts(&w->run, text);
}

// ---- contents ---------------------------------------------------------------------------------

// What Python's str.strip takes away.
static bool is_blank(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static void put_content(writer *w, const char *text, bool trim)
{
    const size_t bytes = strlen(text);
    size_t from = 0, to = 0, taken;
    bool seen = false;
    for (size_t i = 0; i < bytes; i += taken) {
        if (is_blank(facet_utf8_get(text + i, bytes - i, &taken))) continue;
        if (!seen) from = i;
        seen = true;
        to = i + taken;
    }
    if (!trim)
        put_plain(w, text);
    else if (seen)
        facet_text_put(&w->run, text + from, to - from);
}

static bool has_role(const facet_message *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

// ---- the families -----------------------------------------------------------------------------

typedef struct conversation {
    const facet_message *messages;
    size_t n;
    bool generation;
} conversation;

static void write_chatml(writer *w, const conversation *talk)
{
    const facet_chat *chat = &w->t->chat;
    const char *system = chat->texts[FACET_CHAT_SYSTEM];
    if (system && (talk->n == 0 || !has_role(&talk->messages[0], "system"))) {
        put_marked(w, "<|im_start|>system\n");
        put_plain(w, system);
        put_marked(w, "<|im_end|>\n");
    }
    for (size_t i = 0; i < talk->n; i++) {
        put_marked(w, "<|im_start|>");
        put_plain(w, talk->messages[i].role);
        put_plain(w, "\n");
        put_content(w, talk->messages[i].content, chat->trim);
        put_marked(w, "<|im_end|>\n");
    }
    if (talk->generation) put_marked(w, "<|im_start|>assistant\n");
}

static void write_llama3(writer *w, const conversation *talk)
{
    const char *preface = w->t->chat.texts[FACET_CHAT_PREFACE];
    const bool system = talk->n > 0 && has_role(&talk->messages[0], "system");
    if (preface) {
        put_marked(w, "<|start_header_id|>system<|end_header_id|>\n\n");
        put_plain(w, preface);
        if (system) put_content(w, talk->messages[0].content, true);
        put_marked(w, "<|eot_id|>");
    }
    for (size_t i = preface && system ? 1 : 0; i < talk->n; i++) {
        put_marked(w, "<|start_header_id|>");
        put_plain(w, talk->messages[i].role);
        put_marked(w, "<|end_header_id|>\n\n");
        put_content(w, talk->messages[i].content, true);
        put_marked(w, "<|eot_id|>");
    }
    if (talk->generation) put_marked(w, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

// Gemma has no system turn: the message stands at the head of the first turn.
static void write_gemma(writer *w, const conversation *talk)
{
    const bool system = talk->n > 0 && has_role(&talk->messages[0], "system");
    for (size_t i = system ? 1 : 0; i < talk->n; i++) {
        const facet_message *m = &talk->messages[i];
        put_marked(w, "<start_of_turn>");
        put_plain(w, has_role(m, "assistant") ? "model" : m->role);
        put_plain(w, "\n");
        if (system && i == 1) {
            put_plain(w, talk->messages[0].content);
            put_plain(w, "\n\n");
        }
        put_content(w, m->content, true);
        put_marked(w, "<end_of_turn>\n");
    }
    if (talk->generation) put_marked(w, "<start_of_turn>model\n");
}

// Mistral has no system turn either; the assistant speaks right after the user's closing marker.
static void write_mistral(writer *w, const conversation *talk)
{
    const facet_chat *chat = &w->t->chat;
    const bool system = talk->n > 0 && has_role(&talk->messages[0], "system");
    const size_t first = system ? 1 : 0;
    for (size_t i = first; i < talk->n; i++) {
        const facet_message *m = &talk->messages[i];
        if (has_role(m, "assistant")) {
            put_marked(w, chat->texts[FACET_CHAT_ASSISTANT_OPEN]);
            put_content(w, m->content, chat->trim);
            put_id(w, w->t->eos);
            put_marked(w, chat->texts[FACET_CHAT_ASSISTANT_CLOSE]);
            continue;
        }
        put_marked(w, chat->texts[FACET_CHAT_USER_OPEN]);
        if (system && i == (chat->system_last ? talk->n - 1 : first)) {
            put_plain(w, talk->messages[0].content);
            put_plain(w, "\n\n");
        }
        put_content(w, m->content, false);
        put_marked(w, chat->texts[FACET_CHAT_USER_CLOSE]);
    }
}

static void write_raw(writer *w, const conversation *talk)
{
    for (size_t i = 0; i < talk->n; i++) {
        if (i) put_plain(w, "\n");
        put_plain(w, talk->messages[i].content);
    }
}

typedef void chat_writer(writer *w, const conversation *talk);
static chat_writer *const writers[FACET_CHAT_KINDS] = {
    [FACET_CHAT_NONE] = write_raw,        [FACET_CHAT_CHATML] = write_chatml,
    [FACET_CHAT_LLAMA3] = write_llama3,   [FACET_CHAT_GEMMA] = write_gemma,
    [FACET_CHAT_MISTRAL] = write_mistral,
};

static facet_status finish(writer *w, facet_tokens *tokens)
{
    flush(w);
    facet_text_fini(&w->run);
    if (w->status != FACET_OK) {
        facet_mem_free(w->ids.alloc, w->ids.ids);
        return w->status;
    }
    *tokens = (facet_tokens){w->ids.ids, w->ids.count};
    return FACET_OK;
}

static void start(writer *w, const facet_tokenizer *t, const facet_alloc *alloc, facet_err *err)
{
    *w = (writer){.t = t, .ids = {.alloc = alloc}, .after_special = true, .err = err};
    facet_text_init(&w->run, alloc);
}

facet_status facet_tokenizer_chat_encode(const facet_tokenizer *t, const facet_message *messages,
                                         size_t n_messages, bool generation,
                                         const facet_alloc *alloc, facet_tokens *tokens,
                                         facet_err *err)
{
    writer w;
    start(&w, t, alloc, err);
    if (t->add_bos || (t->chat.bos && t->bos >= 0)) put_id(&w, t->bos);
    writers[t->chat.kind](&w, &(conversation){messages, n_messages, generation});
    flush(&w);
    // Where the first marker is BOS itself, the model wants it once.
    if (!t->chat.bos && w.ids.count > 1 && t->add_bos && w.ids.ids[1] == (uint32_t)t->bos)
        memmove(w.ids.ids, w.ids.ids + 1, --w.ids.count * sizeof *w.ids.ids);
    return finish(&w, tokens);
}

facet_status facet_tokenizer_chat_end(const facet_tokenizer *t, const facet_alloc *alloc,
                                      facet_tokens *tokens, facet_err *err)
{
    static const char *const ends[FACET_CHAT_KINDS] = {
        [FACET_CHAT_CHATML] = "<|im_end|>",
        [FACET_CHAT_LLAMA3] = "<|eot_id|>",
        [FACET_CHAT_GEMMA] = "<end_of_turn>",
    };
    writer w;
    start(&w, t, alloc, err);
    if (t->chat.kind == FACET_CHAT_MISTRAL)
        put_id(&w, t->eos);
    else
        put_marked(&w, ends[t->chat.kind]);
    return finish(&w, tokens);
}
