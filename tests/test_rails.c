/* SPDX-License-Identifier: BSD-3-Clause */
/* test_rails.c - the conformance tests on the rails transport, over two loopback ports of tcp. */
#include <stdlib.h>

#include "tests/conformance.h"

int main(void)
{
	setenv("SNT_RAILS", "lo,lo", 1);
	return conformance_run(&snti_rails_transport);
}
