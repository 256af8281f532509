/* SPDX-License-Identifier: BSD-3-Clause */
/* test_tcp.c - the conformance tests on the tcp transport. */
#include "tests/conformance.h"

int main(void)
{
	return conformance_run(&snti_tcp_transport);
}
