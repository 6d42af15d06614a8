// SPDX-License-Identifier: Apache-2.0
// What builds of tiny models need in tests of the compiler. The streams are fakes: the FFNs of the
// model without attention, which is all that compensation needs.
#ifndef FACET_TESTS_FAKE_BUILD_H
#define FACET_TESTS_FAKE_BUILD_H

#include "cache/manifest.h"
#include "compiler/build.h"
#include "compiler/family.h"

// Which op fails, when; counts calls of loss.
typedef struct facet_fake_build {
    facet_status fail;
    int looks_left;
    uint64_t losses;
} facet_fake_build;

// Every op but agree and tune does its work; agree finds no answers, tune is not there.
facet_build_ops facet_fake_ops(facet_fake_build *f);
// A model of the architecture llama, of two layers, in the directory `box`, with weights of a type
// and d_ff = f. NULL: it could not be made. Close with facet_model_close.
facet_model *facet_fake_model(const char *box, const char *type, const char *f);
// The same of another architecture. gemma3 is a directory, whose gains are stored without 1.
facet_model *facet_fake_model_of(const char *arch, const char *box, const char *type,
                                 const char *f);
// Two tasks of ten texts; each task likes half of the channels.
facet_family_set facet_fake_families(const facet_model *model, double keep);
// A published bundle's manifest; the test fails when it is not one.
facet_manifest facet_fake_manifest(const char *bundle);

#endif
