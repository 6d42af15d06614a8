// SPDX-License-Identifier: Apache-2.0
// Which baked targets can this CPU run? Asked by cpuid (and the saved register state), never by
// trying.
#ifndef FACET_RUNTIME_ISA_H
#define FACET_RUNTIME_ISA_H

#include <stdbool.h>

// Can this CPU run code of the named target? `limit` (NULL: none) is a target name that masks
// better ones, as FACET_ISA does in tests; "generic" masks all.
bool facet_isa_runs(const char *target, const char *limit);
// The best target of this CPU under the limit, "generic" when there is none.
const char *facet_isa_best(const char *limit);
// Is it the name of a baked target, or "generic"?
bool facet_isa_known(const char *name);
// Place in the order worst to best; negative for "generic" and unknown names.
int facet_isa_rank(const char *target);
// Features for people: "avx2 fma avx512f ...", in a static table order; borrowed, constant.
const char *facet_cpu_name(char *buffer, unsigned capacity);

#endif
