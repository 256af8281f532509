/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_cm_none.c - the verbs transport of a build without librdmacm's headers. */
#include "transport/verbs_cm.h"

#include <string.h>

#include "base/log.h"
#include "base/settings.h"

int verbs_cm_open(struct verbs_port *port, int *fd)
{
	(void)port;
	*fd = -1;
	if (strcmp(snti_settings()->verbs_connect, "cm"))
		return 0;
	return snti_fail(SNT_EUNSUPPORTED, "verbs: this build has no librdmacm for SNT_VERBS_CONNECT=cm: install librdmacm-dev and "
			 "configure again");
}

void verbs_cm_close(struct verbs_port *port)
{
	(void)port;
}

void verbs_cm_events(struct verbs_port *port)
{
	(void)port;
}

uint32_t verbs_cm_number(const struct verbs_port *port)
{
	(void)port;
	return 0;
}

int verbs_cm_connect(struct verbs_conn *conn)
{
	(void)conn;
	return SNT_EUNSUPPORTED;
}

void verbs_cm_forget(struct verbs_link *link, unsigned index)
{
	(void)link, (void)index;
}
