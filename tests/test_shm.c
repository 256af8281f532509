/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shm.c - the conformance tests on the shm transport. */
#include "tests/conformance.h"

int main(void)
{
	return conformance_run(&snti_shm_transport);
}
