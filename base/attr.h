// SPDX-License-Identifier: Apache-2.0
// Compiler extensions, all of them, in one place.
#ifndef FACET_BASE_ATTR_H
#define FACET_BASE_ATTR_H

#define FACET_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define FACET_UNUSED              __attribute__((unused))
#define FACET_COUNT_OF(array)     (sizeof(array) / sizeof((array)[0]))
#define FACET_TYPE_OF(expression) __typeof__(expression)
#define FACET_TARGET(features)    __attribute__((target(features)))

#endif
