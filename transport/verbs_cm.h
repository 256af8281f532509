/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_cm.h - queue pairs connected through librdmacm, where SNT_VERBS_CONNECT asks for it. */
#ifndef TRANSPORT_VERBS_CM_H
#define TRANSPORT_VERBS_CM_H

#include "transport/verbs.h"

/* Listens on the port's address. @fd: to be read when it has something, -1 when librdmacm is not to be used. */
int  verbs_cm_open(struct verbs_port *port, int *fd);
void verbs_cm_close(struct verbs_port *port);
void verbs_cm_events(struct verbs_port *port);
uint32_t verbs_cm_number(const struct verbs_port *port);        /* where it listens; 0: nowhere */
/* All queue pairs of @conn; link->connecting counts those that are not connected yet. */
int  verbs_cm_connect(struct verbs_conn *conn);
void verbs_cm_forget(struct verbs_link *link, unsigned index);

#endif
