// SPDX-License-Identifier: Apache-2.0
// Named CPU targets and the host C compiler. A target is a fixed set of ISA features: never
// -march=native. Which target suits this machine is runtime/'s knowledge (it reads cpuid); tools/
// passes the name in.
#ifndef FACET_COMPILER_TARGET_H
#define FACET_COMPILER_TARGET_H

#include "base/text.h"

typedef struct facet_target {
    const char *name;         // "x86-64-v3", "avx-vnni", "x86-64-v4", "avx512-vnni", "avx512-bf16"
    const char *const *flags; // NULL-terminated ISA flags for gcc and clang
    const char *simd;         // template that provides the vector primitives
} facet_target;

const facet_target *facet_target_find(const char *name); // NULL: unknown
// All targets' names, NULL-terminated, worst to best.
const char *const *facet_target_names(void);

typedef struct facet_cc {
    char path[4096];
    char identity[256]; // version line and digest of the program's file; no path in it
} facet_cc;

// Finds $CC's value `cc` (NULL or "": cc, gcc, clang in that order). FACET_NO_COMPILER otherwise.
facet_status facet_cc_find(const char *cc, facet_cc *out, facet_err *err);
// Compiles `source` to a shared object at `path`, in directory `dir` (of the caller, private). The
// compiler's words are in the error when it fails.
facet_status facet_cc_compile(const facet_cc *cc, const facet_target *target, const char *source,
                              const char *dir, const char *path, facet_err *err);
// The canonical recipe of an artifact: schema, generator, source digest, plan, target, compiler,
// flags.
void facet_cc_recipe(const facet_cc *cc, const facet_target *target, const char *source,
                     const char *plan_text, facet_text *recipe);

#endif
