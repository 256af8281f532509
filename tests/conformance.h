/* SPDX-License-Identifier: BSD-3-Clause */
/* conformance.h - what every transport has to do, as one set of tests. */
#ifndef TESTS_CONFORMANCE_H
#define TESTS_CONFORMANCE_H

#include "transport/transport.h"

/* Runs the tests on @transport. Returns the number of failed ones. */
int conformance_run(const struct snti_transport *transport);

#endif
