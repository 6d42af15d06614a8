// SPDX-License-Identifier: Apache-2.0
#include "tools/signals.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

// A handler can reach nothing but a global; this is the program's only writable one beside the
// progress line.
static volatile sig_atomic_t caught;

static void remember(int signal_number)
{
    // The first one counts; later ones must not cut the clean-up short.
    if (caught == 0) caught = signal_number;
}

void facet_signals_init(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    (void)sigemptyset(&action.sa_mask);
    // No SA_RESTART: a read from a terminal must come back.
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &action, NULL);
}

int facet_signals_caught(void)
{
    return (int)caught;
}

facet_status facet_signals_check(facet_err *err)
{
    if (caught == 0) return FACET_OK;
    return facet_fail(err, FACET_INTERRUPTED, "interrupted: by a signal; run the command again");
}
