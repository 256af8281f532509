/* SPDX-License-Identifier: BSD-3-Clause */
/* flow.h - messages both ways on several lanes at once, for tests of what may happen to a connection meanwhile. */
#ifndef TESTS_FLOW_H
#define TESTS_FLOW_H

#include "tests/conformance_parts.h"

/* Sums in place and copies, large and small, all begun. */
struct flow *flow_begin(struct pair *p);
/* All have to end without an error, with the right bits. */
void flow_end(struct pair *p, struct flow *f);

#endif
