// SPDX-License-Identifier: Apache-2.0
// Which family a Jinja chat template belongs to, by the markers in its text, and what differs
// between the models of a family: a default system message, spaces, where the system message goes.
#include <string.h>

#include "base/memory.h"
#include "model/chat.h"

#define LLAMA3_DATE "Cutting Knowledge Date: December 2023"

const char *facet_chat_name(facet_chat_kind kind)
{
    static const char *const names[FACET_CHAT_KINDS] = {"none", "chatml", "llama3", "gemma",
                                                        "mistral"};
    return names[kind];
}

void facet_chat_fini(facet_chat *chat, const facet_alloc *alloc)
{
    for (int i = 0; i < FACET_CHAT_TEXTS; i++)
        facet_mem_free(alloc, chat->texts[i]);
    *chat = (facet_chat){0};
}

// The character that a string literal means at *s; steps over it.
static char unescape(const char **s)
{
    char c = *(*s)++;
    if (c != '\\' || **s == '\0') return c;
    c = *(*s)++;
    return c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
}

static facet_status keep(facet_chat *chat, facet_chat_text which, facet_text *text, facet_err *err)
{
    facet_status status = facet_text_status(text, err);
    if (status == FACET_OK && text->length > 0) {
        facet_mem_free(text->alloc, chat->texts[which]);
        chat->texts[which] = facet_text_take(text);
    }
    facet_text_fini(text);
    return status;
}

// The string literal that starts at s (its quote).
static void literal(const char *s, facet_text *out)
{
    const char quote = *s++;
    while (*s && *s != quote) {
        const char c = unescape(&s);
        facet_text_put(out, &c, 1);
    }
}

// The text between "<|im_start|>system\n" and "<|im_end|>" when it is written out, not computed.
static bool chatml_system(const char *s, facet_text *out)
{
    static const char end[] = "<|im_end|>";
    while (*s && strncmp(s, end, sizeof end - 1) != 0) {
        if (*s == '\'' || *s == '"' || *s == '{' || *s == '}') return false;
        const char c = unescape(&s);
        facet_text_put(out, &c, 1);
    }
    return *s != '\0';
}

static facet_status find_system(const char *jinja, const facet_alloc *alloc, facet_chat *chat,
                                facet_err *err)
{
    static const char open[] = "<|im_start|>system", set[] = "set system_message";
    facet_text text;
    facet_text_init(&text, alloc);
    for (const char *s = jinja; (s = strstr(s, open)) != NULL;) {
        s += sizeof open - 1;
        const char *body = s;
        if (*body == '\0' || unescape(&body) != '\n') continue;
        facet_text_clear(&text);
        const bool found = chatml_system(body, &text);
        if (text.status != FACET_OK || (found && text.length > 0))
            return keep(chat, FACET_CHAT_SYSTEM, &text, err);
    }
    facet_text_clear(&text);
    const char *s = strstr(jinja, set);
    if (s) {
        s += sizeof set - 1;
        s += strspn(s, " =");
        if (*s == '\'' || *s == '"') literal(s, &text);
    }
    return keep(chat, FACET_CHAT_SYSTEM, &text, err);
}

// Llama 3.1 and later begin every system turn with two dates. Templates that ask the clock for the
// second name this day where there is no clock; so do we, because output must not depend on time.
static facet_status find_preface(const char *jinja, const facet_alloc *alloc, facet_chat *chat,
                                 facet_err *err)
{
    facet_text text;
    facet_text_init(&text, alloc);
    if (strstr(jinja, LLAMA3_DATE))
        facet_text_puts(&text, LLAMA3_DATE "\nToday Date: 26 Jul 2024\n\n");
    return keep(chat, FACET_CHAT_PREFACE, &text, err);
}

// A stretch {{ ... }} of a template.
typedef struct expression {
    const char *from, *to;
} expression;

static bool next_expression(const char **s, expression *out)
{
    const char *from = strstr(*s, "{{");
    const char *to = from ? strstr(from, "}}") : NULL;
    if (!to) return false;
    *out = (expression){from + 2, to};
    *s = to + 2;
    return true;
}

static const char *find_in(const expression *e, const char *what)
{
    const char *at = strstr(e->from, what);
    return at && at + strlen(what) <= e->to ? at : NULL;
}

// Joins the string literals that start in [from, to), except names of fields in brackets.
static void literals(const char *from, const char *to, facet_text *out)
{
    for (const char *s = from; s < to; s++) {
        if (*s != '\'' && *s != '"') continue;
        if (s == from || s[-1] != '[') literal(s, out);
        const char quote = *s++;
        while (*s && *s != quote)
            (void)unescape(&s);
        if (*s == '\0') return;
    }
}

static facet_status keep_literals(const char *from, const char *to, const facet_alloc *alloc,
                                  facet_chat *chat, facet_chat_text which, facet_err *err)
{
    facet_text text;
    facet_text_init(&text, alloc);
    literals(from, to, &text);
    return keep(chat, which, &text, err);
}

// {{ "[INST] " + message["content"] + "[/INST]" }} and {{ " " + message["content"] + eos_token }}:
// where the spaces stand differs between the versions.
static facet_status find_instructions(const char *jinja, const facet_alloc *alloc, facet_chat *chat,
                                      facet_err *err)
{
    expression e;
    for (const char *s = jinja; next_expression(&s, &e);) {
        const char *content = find_in(&e, "content"), *eos = find_in(&e, "eos_token");
        if (!content || find_in(&e, "system")) continue;
        if (find_in(&e, "[INST]") && find_in(&e, "[/INST]")) {
            FACET_TRY(keep_literals(e.from, content - 1, alloc, chat, FACET_CHAT_USER_OPEN, err));
            // The field's own closing quote is stepped over.
            FACET_TRY(keep_literals(content + 8, e.to, alloc, chat, FACET_CHAT_USER_CLOSE, err));
        } else if (eos && eos > content) {
            FACET_TRY(
                keep_literals(e.from, content - 1, alloc, chat, FACET_CHAT_ASSISTANT_OPEN, err));
            FACET_TRY(keep_literals(eos, e.to, alloc, chat, FACET_CHAT_ASSISTANT_CLOSE, err));
        }
    }
    if (!chat->texts[FACET_CHAT_USER_OPEN] || !chat->texts[FACET_CHAT_USER_CLOSE])
        facet_chat_fini(chat, alloc); // written in a way that we do not know
    return FACET_OK;
}

static facet_status detect(const char *jinja, const facet_alloc *alloc, facet_chat *chat,
                           facet_err *err)
{
    static const struct {
        facet_chat_kind kind;
        const char *has[2];
        facet_status (*details)(const char *, const facet_alloc *, facet_chat *, facet_err *);
    } families[] = {
        {FACET_CHAT_CHATML, {"<|im_start|>", "<|im_end|>"}, find_system},
        {FACET_CHAT_LLAMA3, {"<|start_header_id|>", "<|eot_id|>"}, find_preface},
        {FACET_CHAT_GEMMA, {"<start_of_turn>", "<end_of_turn>"}, NULL},
        {FACET_CHAT_MISTRAL, {"[INST]", "[/INST]"}, find_instructions},
    };
    if (strstr(jinja, "<<SYS>>")) return FACET_OK; // Llama 2 has [INST] too
    for (size_t i = 0; i < FACET_COUNT_OF(families); i++) {
        if (!strstr(jinja, families[i].has[0]) || !strstr(jinja, families[i].has[1])) continue;
        chat->kind = families[i].kind;
        chat->bos = strstr(jinja, "bos_token") != NULL;
        chat->trim = strstr(jinja, "| trim") || strstr(jinja, "|trim");
        chat->system_last = strstr(jinja, "loop.last and system_message") != NULL;
        return families[i].details ? families[i].details(jinja, alloc, chat, err) : FACET_OK;
    }
    return FACET_OK;
}

facet_status facet_chat_detect(const char *jinja, size_t bytes, const facet_alloc *alloc,
                               facet_chat *chat, facet_err *err)
{
    char *copy = facet_mem_strndup(alloc, jinja, bytes);
    if (!copy) return facet_fail_memory(err, bytes);
    facet_chat found = {0};
    const facet_status status = detect(copy, alloc, &found, err);
    facet_mem_free(alloc, copy);
    if (status != FACET_OK) {
        facet_chat_fini(&found, alloc);
        return status;
    }
    facet_chat_fini(chat, alloc);
    *chat = found;
    return FACET_OK;
}
