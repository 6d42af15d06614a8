// SPDX-License-Identifier: Apache-2.0
// Every public call of tokenizers with memory running out at allocation 1, 2, 3 ... until it
// succeeds; and many threads that share one tokenizer.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/model/tokenizer_maker.h"
#include "tests/support/failing.h"

static const char text[] = "<s> hello  world aab\n\n\xc3\xa9\xff <tool>x 123<|im_end|>";
static const facet_message talk[] = {{"system", "S."}, {"user", "hello"}};

// Bundle, encode, decode and talk with a tokenizer.
static facet_status use(const facet_tokenizer *t, const facet_alloc *alloc)
{
    facet_tokenizer *again = NULL;
    facet_tokens tokens = {0}, chat = {0}, end = {0};
    facet_text bin, out;
    facet_text_init(&bin, alloc);
    facet_text_init(&out, alloc);
    facet_status status = facet_tokenizer_save(t, &bin, NULL);
    FACET_TRY_GOTO(status, done);
    FACET_TRY_GOTO(facet_tokenizer_load(bin.data, bin.length, "f", alloc, &again, NULL), done);
    FACET_TRY_GOTO(
        facet_tokenizer_encode(again, text, sizeof text - 1, true, true, alloc, &tokens, NULL),
        done);
    FACET_TRY_GOTO(facet_tokenizer_decode(again, tokens.ids, tokens.count, true, &out, NULL), done);
    FACET_TRY_GOTO(facet_tokenizer_chat_encode(again, talk, 2, true, alloc, &chat, NULL), done);
    FACET_TRY_GOTO(facet_tokenizer_chat_end(again, alloc, &end, NULL), done);
done:
    facet_mem_free(alloc, end.ids);
    facet_mem_free(alloc, chat.ids);
    facet_mem_free(alloc, tokens.ids);
    facet_text_fini(&out);
    facet_text_fini(&bin);
    facet_tokenizer_free(again);
    return status;
}

enum { JSON, SPM, BPE, KINDS };

static facet_status run(int kind, const facet_alloc *alloc)
{
    facet_tokenizer *t = NULL;
    facet_text gguf;
    facet_text_init(&gguf, NULL);
    facet_status status;
    if (kind == JSON) {
        status = maker_open_json(&(maker_json){.pre = MAKER_SMOLLM},
                                 "{\"chat_template\":\"<|im_start|>system\\nBe kind.<|im_end|>\"}",
                                 alloc, &t, NULL);
    } else if (kind == SPM) {
        put_spm_gguf(&gguf, 1,
                     "{{ bos_token }}{{'[INST] ' + m['content'] + ' [/INST]'}}"
                     "{{m['content'] + eos_token + ' '}}");
        status = maker_open_gguf(&gguf, alloc, &t, NULL);
    } else {
        put_bpe_gguf(&gguf, "default");
        status = maker_open_gguf(&gguf, alloc, &t, NULL);
    }
    if (status == FACET_OK) status = use(t, alloc);
    facet_tokenizer_free(t);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        facet_failing failing;
        long n = 0;
        facet_status status;
        do {
            facet_failing_init(&failing, ++n);
            status = run(kind, &failing.alloc);
            assert_int_equal(atomic_load(&failing.alive), 0);
            // A failure that nobody reports would be a result that is silently poorer.
            if (atomic_load(&failing.calls) >= n) assert_int_equal(status, FACET_NO_MEMORY);
        } while (atomic_load(&failing.calls) >= n);
        assert_int_equal(status, FACET_OK);
        assert_true(n > 20);
    }
}

// ---- threads ----------------------------------------------------------------------------------

typedef struct worker {
    const facet_tokenizer *t;
    const facet_tokens *want;
    bool ok;
} worker;

static void *work(void *ctx)
{
    worker *w = ctx;
    w->ok = true;
    for (int round = 0; round < 200; round++) {
        facet_tokens tokens = {0};
        w->ok = w->ok &&
                facet_tokenizer_encode(w->t, text, sizeof text - 1, true, true, NULL, &tokens,
                                       NULL) == FACET_OK &&
                tokens.count == w->want->count &&
                memcmp(tokens.ids, w->want->ids, tokens.count * sizeof *tokens.ids) == 0;
        free(tokens.ids);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    facet_tokenizer *t = NULL;
    facet_tokens want;
    assert_int_equal(maker_open_json(&(maker_json){.pre = MAKER_QWEN2}, NULL, NULL, &t, NULL),
                     FACET_OK);
    assert_int_equal(
        facet_tokenizer_encode(t, text, sizeof text - 1, true, true, NULL, &want, NULL), FACET_OK);
    pthread_t threads[4];
    worker workers[4];
    for (int i = 0; i < 4; i++) {
        workers[i] = (worker){t, &want, false};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].ok);
    }
    free(want.ids);
    facet_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
