// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM become an answer to "shall I stop?": the rooms unwind, remove what they had
// begun and the program exits with 128 + signal.
#ifndef FACET_TOOLS_SIGNALS_H
#define FACET_TOOLS_SIGNALS_H

#include "base/status.h"

// Installs the handlers. A closed pipe becomes an error of writing instead of a silent end.
void facet_signals_init(void);
// The signal that came, 0 if none.
int facet_signals_caught(void);
// FACET_INTERRUPTED once a signal came.
facet_status facet_signals_check(facet_err *err);

#endif
