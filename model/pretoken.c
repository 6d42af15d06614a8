// SPDX-License-Identifier: Apache-2.0
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretoken.h"

#include <pcre2.h>
#include <string.h>

#include "base/memory.h"

// Classes. \s of PCRE2 also takes U+180E, which Unicode no longer counts as white space. Letters,
// numbers and punctuation that Unicode 15 and 15.1 added are spelled out, because PCRE2
// before 10.43 does not know them; for a later PCRE2 they change nothing.
#define SPACES                                                                                     \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define LETTERS                                                                                    \
    "\\p{L}\\x{1123f}-\\x{11240}\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}"    \
    "\\x{13441}-\\x{13446}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}\\x{1e030}-\\x{1e06d}"          \
    "\\x{1e4d0}-\\x{1e4eb}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NUMBERS     "\\p{N}\\x{11f50}-\\x{11f59}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}"
#define PUNCTUATION "\\p{P}\\x{11b00}-\\x{11b09}\\x{11f43}-\\x{11f4f}"

#define S     "[" SPACES "]"
#define NOT_S "[^" SPACES "]"
#define L     "[" LETTERS "]"
#define N     "[" NUMBERS "]"
#define OTHER "[^" SPACES LETTERS NUMBERS "]"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?" L "+| ?" N "+| ?" OTHER "+|" S "+(?!" NOT_S ")|" S "+"
// Llama 3 and Qwen2 differ in how many digits stay together. Their (?i:) is written out: folding
// would also take U+017F for an s.
#define CONTRACTIONS "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define CL100K(digits)                                                                             \
    CONTRACTIONS "|[^\\r\\n" LETTERS NUMBERS "]?" L "+|" digits "| ?" OTHER "+[\\r\\n]*|" S        \
                 "*[\\r\\n]+|" S "+(?!" NOT_S ")|" S "+"

#define MAX_STEPS 4

// Each pattern cuts the pieces that the one before left; what it does not match is a piece too.
static const struct {
    const char *name;
    const char *steps[MAX_STEPS];
} kinds[FACET_PRETOKEN_COUNT] = {
    [FACET_PRETOKEN_NONE] = {"none", {0}},
    [FACET_PRETOKEN_DEFAULT] = {"default",
                                {"[" PUNCTUATION "$+<=>^~|]+", GPT2, N "+", "[0-9][0-9][0-9]"}},
    [FACET_PRETOKEN_GPT2] = {"gpt-2", {GPT2}},
    [FACET_PRETOKEN_LLAMA3] = {"llama-bpe", {CL100K(N "{1,3}")}},
    [FACET_PRETOKEN_QWEN2] = {"qwen2", {CL100K(N)}},
    [FACET_PRETOKEN_SMOLLM] = {"smollm", {N, GPT2}},
};

static const struct {
    const char *name;
    facet_pretoken pretoken;
} names[] = {
    {"default", FACET_PRETOKEN_DEFAULT},        {"gpt-2", FACET_PRETOKEN_GPT2},
    {"llama-bpe", FACET_PRETOKEN_LLAMA3},       {"llama3", FACET_PRETOKEN_LLAMA3},
    {"llama-v3", FACET_PRETOKEN_LLAMA3},        {"qwen2", FACET_PRETOKEN_QWEN2},
    {"deepseek-r1-qwen", FACET_PRETOKEN_QWEN2}, {"smollm", FACET_PRETOKEN_SMOLLM},
};

#define REGEX_CL100K(digits)                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                           \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const struct {
    const char *regex;
    facet_pretoken pretoken;
} regexes[] = {
    {REGEX_CL100K("\\p{N}{1,3}"), FACET_PRETOKEN_LLAMA3},
    {REGEX_CL100K("\\p{N}"), FACET_PRETOKEN_QWEN2},
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     FACET_PRETOKEN_GPT2},
    {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     FACET_PRETOKEN_GPT2},
};

// PCRE2's memory functions get a pointer to a holder, because a facet_alloc is const.
typedef struct holder {
    const facet_alloc *alloc;
} holder;

struct facet_pretokenizer {
    holder memory;
    pcre2_general_context *general;
    pcre2_match_context *match;
    pcre2_code *codes[MAX_STEPS];
    uint32_t n;
};

static void *pcre_new(size_t bytes, void *ctx)
{
    const holder *h = ctx;
    return facet_mem_resize(h->alloc, NULL, bytes, 1);
}

static void pcre_free(void *ptr, void *ctx)
{
    const holder *h = ctx;
    facet_mem_free(h->alloc, ptr);
}

const char *facet_pretoken_name(facet_pretoken pretoken)
{
    return kinds[pretoken].name;
}

bool facet_pretoken_find(const char *name, size_t bytes, facet_pretoken *out)
{
    for (size_t i = 0; i < FACET_COUNT_OF(names); i++) {
        if (strlen(names[i].name) != bytes || memcmp(names[i].name, name, bytes) != 0) continue;
        *out = names[i].pretoken;
        return true;
    }
    return false;
}

bool facet_pretoken_find_regex(const char *regex, facet_pretoken *out)
{
    for (size_t i = 0; i < FACET_COUNT_OF(regexes); i++) {
        if (strcmp(regexes[i].regex, regex) != 0) continue;
        *out = regexes[i].pretoken;
        return true;
    }
    return false;
}

static facet_status compile(facet_pretokenizer *p, facet_pretoken pretoken, facet_err *err)
{
    p->general = pcre2_general_context_create(pcre_new, pcre_free, &p->memory);
    if (!p->general) return facet_fail_memory(err, 0);
    p->match = pcre2_match_context_create(p->general);
    pcre2_compile_context *context = pcre2_compile_context_create(p->general);
    if (!p->match || !context) {
        pcre2_compile_context_free(context);
        return facet_fail_memory(err, 0);
    }
    // A run of a million spaces costs a million steps of one match; the patterns are ours and never
    // take more than a fixed number of passes over a run, so no limit is needed.
    pcre2_set_match_limit(p->match, UINT32_MAX);
    int code = 0;
    for (; p->n < MAX_STEPS && kinds[pretoken].steps[p->n]; p->n++) {
        PCRE2_SIZE at;
        p->codes[p->n] =
            pcre2_compile((PCRE2_SPTR)kinds[pretoken].steps[p->n], PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP, &code, &at, context);
        if (!p->codes[p->n]) break;
    }
    pcre2_compile_context_free(context);
    if (p->n == MAX_STEPS || !kinds[pretoken].steps[p->n]) return FACET_OK;
    if (code == PCRE2_ERROR_HEAP_FAILED) return facet_fail_memory(err, 0);
    return facet_fail(err, FACET_FAILED,
                      "pre-tokenizer %s: PCRE2 refuses its pattern (error %d); "
                      "use a PCRE2 with Unicode support",
                      kinds[pretoken].name, code);
}

facet_status facet_pretokenizer_new(facet_pretoken pretoken, const facet_alloc *alloc,
                                    facet_pretokenizer **out, facet_err *err)
{
    facet_pretokenizer *p = facet_mem_new(alloc, 1, sizeof *p);
    if (!p) return facet_fail_memory(err, sizeof *p);
    p->memory.alloc = alloc;
    const facet_status status = compile(p, pretoken, err);
    if (status != FACET_OK) {
        facet_pretokenizer_free(p);
        return status;
    }
    *out = p;
    return FACET_OK;
}

void facet_pretokenizer_free(facet_pretokenizer *p)
{
    if (!p) return;
    for (uint32_t i = 0; i < MAX_STEPS; i++)
        pcre2_code_free(p->codes[i]);
    pcre2_match_context_free(p->match);
    pcre2_general_context_free(p->general);
    facet_mem_free(p->memory.alloc, p);
}

typedef struct ends_list {
    const facet_alloc *alloc;
    uint32_t *ends;
    size_t count, capacity;
} ends_list;

static facet_status put_end(ends_list *list, size_t end, facet_err *err)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 64;
        uint32_t *grown = facet_mem_resize(list->alloc, list->ends, capacity, sizeof *grown);
        if (!grown) return facet_fail_memory(err, capacity * sizeof *grown);
        list->ends = grown;
        list->capacity = capacity;
    }
    list->ends[list->count++] = (uint32_t)end;
    return FACET_OK;
}

typedef struct cut {
    const pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    const char *text;
} cut;

// Cuts text[from, to) by one pattern and appends the ends.
static facet_status cut_piece(const cut *c, size_t from, size_t to, ends_list *list, facet_err *err)
{
    const size_t bytes = to - from;
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(c->data);
    size_t done = 0;
    while (done < bytes) {
        const int found = pcre2_match(c->code, (PCRE2_SPTR)(c->text + from), bytes, done,
                                      PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, c->data, c->context);
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found == PCRE2_ERROR_NOMEMORY) return facet_fail_memory(err, bytes);
        if (found < 0)
            return facet_fail(err, FACET_FAILED, "pre-tokenizer: PCRE2 fails with error %d", found);
        if (span[0] > done) FACET_TRY(put_end(list, from + span[0], err));
        FACET_TRY(put_end(list, from + span[1], err));
        done = span[1];
    }
    return done < bytes ? put_end(list, to, err) : FACET_OK;
}

static facet_status cut_all(const facet_pretokenizer *p, cut *c, size_t bytes, ends_list *list,
                            ends_list *next, facet_err *err)
{
    FACET_TRY(put_end(list, bytes, err));
    for (uint32_t step = 0; step < p->n; step++) {
        c->code = p->codes[step];
        next->count = 0;
        size_t from = 0;
        for (size_t i = 0; i < list->count; i++) {
            FACET_TRY(cut_piece(c, from, list->ends[i], next, err));
            from = list->ends[i];
        }
        const ends_list swap = *list;
        *list = *next;
        *next = swap;
    }
    return FACET_OK;
}

facet_status facet_pretokenizer_run(const facet_pretokenizer *p, const char *text, size_t bytes,
                                    const facet_alloc *alloc, uint32_t **ends, size_t *count,
                                    facet_err *err)
{
    holder memory = {alloc};
    ends_list list = {.alloc = alloc}, next = {.alloc = alloc};
    cut c = {.text = text, .context = p->match};
    facet_status status = FACET_OK;
    pcre2_general_context *general = pcre2_general_context_create(pcre_new, pcre_free, &memory);
    if (general) c.data = pcre2_match_data_create(1, general);
    if (!c.data)
        status = facet_fail_memory(err, 0);
    else if (bytes > 0)
        status = cut_all(p, &c, bytes, &list, &next, err);
    pcre2_match_data_free(c.data);
    pcre2_general_context_free(general);
    facet_mem_free(alloc, next.ends);
    if (status != FACET_OK) {
        facet_mem_free(alloc, list.ends);
        return status;
    }
    *ends = list.ends;
    *count = list.count;
    return FACET_OK;
}
