// SPDX-License-Identifier: Apache-2.0
// Chat templates. A model gives its template as a Jinja program; facet does not run it but
// recognises which of four families it is, and which of their variants. In: the program's text.
// Out: plain data from which chat.c writes a conversation.
#ifndef FACET_MODEL_CHAT_H
#define FACET_MODEL_CHAT_H

#include "base/text.h"

typedef enum facet_chat_kind {
    FACET_CHAT_NONE,
    FACET_CHAT_CHATML,
    FACET_CHAT_LLAMA3,
    FACET_CHAT_GEMMA,
    FACET_CHAT_MISTRAL,
    FACET_CHAT_KINDS
} facet_chat_kind;

// Texts that differ between the models of a family.
typedef enum facet_chat_text {
    FACET_CHAT_SYSTEM,    // said in a system turn when the conversation has none
    FACET_CHAT_PREFACE,   // llama3: stands before the system message, always there
    FACET_CHAT_USER_OPEN, // mistral, the rest
    FACET_CHAT_USER_CLOSE,
    FACET_CHAT_ASSISTANT_OPEN,
    FACET_CHAT_ASSISTANT_CLOSE, // after EOS
    FACET_CHAT_TEXTS
} facet_chat_text;

typedef struct facet_chat {
    facet_chat_kind kind;
    bool bos;         // the template writes BOS itself
    bool trim;        // contents lose white space at both ends
    bool system_last; // mistral: the system message joins the last user message, not the first
    char *texts[FACET_CHAT_TEXTS]; // NULL: empty
} facet_chat;

const char *facet_chat_name(facet_chat_kind kind); // "chatml" ... "none"
// Recognises a template; an unknown one gives FACET_CHAT_NONE. Free with facet_chat_fini.
facet_status facet_chat_detect(const char *jinja, size_t bytes, const facet_alloc *alloc,
                               facet_chat *chat, facet_err *err);
void facet_chat_fini(facet_chat *chat, const facet_alloc *alloc);

#endif
