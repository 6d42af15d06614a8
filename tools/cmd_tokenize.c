// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/tokenizer.h"
#include "tools/output.h"
#include "tools/resolve.h"
#include "tools/tokenizer_open.h"

typedef struct tokenize_opts {
    const char *text;
    bool special, decode;
} tokenize_opts;

static const tokenize_opts defaults = {0};
#define FIELD(field) offsetof(tokenize_opts, field)
static const facet_option options[] = {
    FACET_OPT_TEXT("--text", NULL, FIELD(text), "TEXT", "The text itself, instead of a file."),
    FACET_OPT_FLAG(
        "--special", NULL, FIELD(special),
        "Add BOS where the model asks for it and read special tokens in the text as such."),
    FACET_OPT_FLAG("--decode", NULL, FIELD(decode),
                   "The input is token ids (numbers between spaces or commas); print their text."),
    FACET_OPT_END,
};

enum { INPUT_MAX = 1 << 30 };

static facet_status read_stdin(facet_text *text, facet_err *err)
{
    char block[65536];
    size_t n;
    errno = 0;
    while ((n = fread(block, 1, sizeof block, stdin)) > 0) {
        facet_text_put(text, block, n);
        if (text->length > INPUT_MAX)
            return facet_fail(err, FACET_BAD_INPUT, "standard input: is too long; cut it");
    }
    if (ferror(stdin))
        return facet_fail_errno(err, errno != 0 ? errno : EIO, "standard input", "read");
    return facet_text_status(text, err);
}

static facet_status read_input(const tokenize_opts *opts, const facet_strings *args,
                               facet_text *text, facet_err *err)
{
    if ((opts->text != NULL) == (args->n > 1))
        return facet_fail(err, FACET_USAGE,
                          "tokenize: needs one of --text, a file and -; see facet tokenize --help");
    if (opts->text != NULL) {
        facet_text_puts(text, opts->text);
        return facet_text_status(text, err);
    }
    if (strcmp(args->items[1], "-") == 0) return read_stdin(text, err);
    char *data;
    size_t bytes;
    FACET_TRY(facet_file_read(args->items[1], INPUT_MAX, NULL, &data, &bytes, err));
    facet_text_put(text, data, bytes);
    facet_mem_free(NULL, data);
    return facet_text_status(text, err);
}

// ---- ids as text --------------------------------------------------------------------------------

static bool is_separator(char c)
{
    return c != '\0' && strchr(" \t\r\n,[]", c) != NULL;
}

static facet_status parse_ids(const facet_text *text, uint32_t n_vocab, facet_tokens *tokens,
                              facet_err *err)
{
    const char *s = facet_text_str(text);
    tokens->ids = facet_mem_new(NULL, text->length + 1, sizeof *tokens->ids);
    if (tokens->ids == NULL) return facet_fail_memory(err, (text->length + 1) * sizeof(uint32_t));
    for (size_t i = 0; i < text->length;) {
        if (is_separator(s[i])) {
            i++;
            continue;
        }
        char word[16] = {0};
        size_t n = 0;
        uint64_t id = UINT64_MAX;
        while (i + n < text->length && !is_separator(s[i + n]))
            n++;
        if (n < sizeof word) memcpy(word, s + i, n);
        if (!facet_parse_u64(word, &id) || id >= n_vocab)
            return facet_fail(
                err, FACET_BAD_INPUT,
                "token ids: at byte %zu is no id below %u; give numbers of the model's "
                "vocabulary",
                i, n_vocab);
        tokens->ids[tokens->count++] = (uint32_t)id;
        i += n;
    }
    return FACET_OK;
}

static facet_status decode(const facet_tool *tool, const tokenize_opts *opts,
                           const facet_tokenizer *tokenizer, const facet_text *input,
                           facet_err *err)
{
    facet_tokens tokens = {0};
    facet_text text;
    facet_text_init(&text, NULL);
    facet_status status = parse_ids(input, facet_tokenizer_vocab(tokenizer), &tokens, err);
    if (status == FACET_OK)
        status =
            facet_tokenizer_decode(tokenizer, tokens.ids, tokens.count, opts->special, &text, err);
    if (status == FACET_OK) status = facet_text_status(&text, err);
    if (status == FACET_OK && tool->json) {
        cJSON *doc = facet_doc_new();
        facet_doc_text_n(doc, "text", facet_text_str(&text), text.length);
        facet_doc_number(doc, "count", (double)tokens.count);
        status = facet_output_document(tool, doc, err);
    } else if (status == FACET_OK) {
        status = facet_output_write(text.data, text.length, err);
        if (status == FACET_OK) status = facet_output_flush(err);
    }
    facet_text_fini(&text);
    facet_mem_free(NULL, tokens.ids);
    return status;
}

static facet_status encode(const facet_tool *tool, const tokenize_opts *opts,
                           const facet_tokenizer *tokenizer, const facet_text *input,
                           facet_err *err)
{
    facet_tokens tokens = {0};
    FACET_TRY(facet_tokenizer_encode(tokenizer, facet_text_str(input), input->length, opts->special,
                                     opts->special, NULL, &tokens, err));
    // Printed by hand: a document of a million numbers would cost a hundred bytes each.
    facet_text out;
    facet_text_init(&out, NULL);
    if (tool->json) facet_text_puts(&out, "{\"ids\":[");
    for (size_t i = 0; i < tokens.count; i++)
        facet_text_add(&out, "%s%u", i == 0 ? "" : tool->json ? "," : " ", tokens.ids[i]);
    if (tool->json) facet_text_add(&out, "],\"count\":%zu}", tokens.count);
    facet_text_puts(&out, "\n");
    facet_mem_free(NULL, tokens.ids);
    facet_status status = facet_text_status(&out, err);
    if (status == FACET_OK) status = facet_output_write(out.data, out.length, err);
    if (status == FACET_OK) status = facet_output_flush(err);
    facet_text_fini(&out);
    return status;
}

static facet_status run(facet_tool *tool, const void *opts_given, const facet_strings *args,
                        facet_err *err)
{
    const tokenize_opts *opts = opts_given;
    facet_tokenizer *tokenizer = NULL;
    facet_text input;
    facet_text_init(&input, NULL);
    facet_status status = read_input(opts, args, &input, err);
    if (status == FACET_OK) status = facet_tokenizer_open(args->items[0], &tokenizer, err);
    if (status == FACET_OK)
        status = opts->decode ? decode(tool, opts, tokenizer, &input, err)
                              : encode(tool, opts, tokenizer, &input, err);
    facet_tokenizer_free(tokenizer);
    facet_text_fini(&input);
    return status;
}

const facet_command facet_command_tokenize = {
    .name = "tokenize",
    .summary = "Turn text into token ids, or back.",
    .usage = "[options] MODEL|BUNDLE [FILE|-]",
    .example = "facet tokenize model.gguf --text \"Hello, world\"",
    .options = options,
    .defaults = &defaults,
    .bytes = sizeof defaults,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
